"""What carrying an array between PyTorch and JAX costs, from 1 KB to 1 GB, beside a copy through NumPy.

    python benchmarks/bridge.py [-o bridge.json] [--device cuda]

On one device the bridge shares the buffer, so its cost must not depend on the size. That is measured in rounds of its
own, all sizes in turn: giving the gigabytes of NumPy's copies back to the system falls into what is measured next.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rows import Row, arguments, compare, figure, finish
from timing import Times, interleaved

from torch_bridge.exchange import to_jax, to_torch
from train.devices import choose_devices

SIZES = {"1 KB": 2**10, "32 KB": 2**15, "1 MB": 2**20, "32 MB": 2**25, "1 GB": 2**30}
QUICK = ("1 KB", "1 MB")
WAYS = ("to_jax", "to_torch")
CALLS = 20  # of the bridge that make one measurement
GROWTH = 2.0  # of the cost from the smallest to the largest array: noise of microseconds, not of bytes


def measure(octets: int, *, rounds: int, device: torch.device) -> dict[str, Times]:
    """Both directions by the bridge and through NumPy, for float32 arrays of that size."""
    tensor = torch.rand(octets // 4, device=device)
    array = jax.block_until_ready(to_jax(tensor))
    place = next(iter(array.sharding.device_set))

    def from_numpy() -> jax.Array:
        return jax.block_until_ready(jax.device_put(jnp.array(np.array(tensor.cpu().numpy())), place))

    functions = {
        **ways(tensor),
        "to_jax, NumPy": from_numpy,
        "to_torch, NumPy": lambda: settled(torch.from_numpy(np.array(array)).to(device)),
    }
    return interleaved(functions, rounds=rounds, inner={"to_jax": CALLS, "to_torch": CALLS})


def ways(tensor: torch.Tensor) -> dict[str, Callable[[], None]]:
    """Both directions by the bridge, of a tensor and of its array."""
    array = jax.block_until_ready(to_jax(tensor))
    return {
        "to_jax": lambda: jax.block_until_ready(to_jax(tensor)),
        "to_torch": lambda: settled(to_torch(array)),
    }


def settled(moved: torch.Tensor) -> None:
    """Wait until a tensor is there."""
    if moved.is_cuda:
        torch.cuda.synchronize()


def growth(sizes: dict[str, int], *, rounds: int, device: torch.device) -> list[Row]:
    """The cost of the largest array over that of the smallest, by the bridge alone."""
    functions = {}
    for name, octets in sizes.items():
        functions |= {f"{way}, {name}": f for way, f in ways(torch.rand(octets // 4, device=device)).items()}
    taken = interleaved(functions, rounds=rounds, inner=CALLS)
    first, *_, last = sizes
    return [
        figure(
            f"{way}: cost of {last} over that of {first}",
            taken[f"{way}, {last}"].median / taken[f"{way}, {first}"].median,
            "x",
            most=GROWTH,
        )
        for way in WAYS
    ]


def measured(sizes: dict[str, int], *, rounds: int, device: torch.device) -> list[Row]:
    """Rows of all sizes, and the growth of the bridge's cost from the smallest to the largest."""
    times = {name: measure(octets, rounds=rounds, device=device) for name, octets in sizes.items()}
    rows = [
        compare(f"{way}, {name}", taken[way], "copy through NumPy", taken[f"{way}, NumPy"])
        for way in WAYS
        for name, taken in times.items()
    ]
    return rows + growth(sizes, rounds=rounds, device=device)


def main() -> None:
    options = arguments(__doc__, rounds=20, devices=("cpu", "cuda")).parse_args()
    device, _ = choose_devices(options.device)
    sizes = {name: SIZES[name] for name in QUICK} if options.quick else SIZES
    rows = measured(sizes, rounds=5 if options.quick else options.rounds, device=device)
    finish("bridge", "Bridge between PyTorch and JAX", rows, options)


if __name__ == "__main__":
    main()
