"""The quantiser's training call beside vector-quantize-pytorch: same codebook, same vectors, forward and backward.

    python benchmarks/quantizer.py [-o quantizer.json] [--device cuda]

Both quantise a batch, take the gradient of the sum of squares of what comes out plus the commitment loss, and update
the codebook's moving averages. The indices of the first call must be equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rows import Row, arguments, compare, finish
from timing import interleaved

from genie_jax.vq import VectorQuantizer, VQConfig, VQState
from torch_bridge.reference.vector_quantize import make_quantizer
from train.devices import choose_devices


@dataclass(frozen=True)
class Case:
    """A codebook, and the number of vectors in a batch."""

    config: VQConfig
    vectors: int

    @property
    def title(self) -> str:
        """For the table."""
        config = self.config
        return f"{config.codes} codes of {config.dim}, {self.vectors} vectors, {config.gradient}"


def cases(*, quick: bool) -> list[Case]:
    """The action model's codebook and a larger one, by both ways of passing gradients."""
    if quick:
        return [Case(VQConfig(kmeans_start=False), 64)]
    small = [Case(VQConfig(kmeans_start=False, gradient=way), 1024) for way in ("ste", "rotation")]
    return [*small, Case(VQConfig(codes=512, dim=64, kmeans_start=False), 8192)]


def measure(
    case: Case, *, rounds: int, device: torch.device, place: jax.Device, peers: Sequence[str] = ("eager", "compiled")
) -> list[Row]:
    """Rows of one case: beside the package as it is, and by `torch.compile`."""
    config = case.config
    x = np.random.default_rng(0).standard_normal((1, case.vectors, config.dim), np.float32)
    embed = np.random.default_rng(1).standard_normal((config.codes, config.dim), np.float32)
    counts = np.ones(config.codes, np.float32)
    state = VQState(jnp.asarray(True), jnp.asarray(counts), jnp.asarray(embed), jnp.asarray(embed))
    ours, first = ours_of(config, jax.device_put(state, place), jax.device_put(x, place))
    functions = {"ours": ours}
    for name in peers:
        peer = make_quantizer(config, state).to(device).train()
        functions[name], indices = theirs_of(peer, torch.from_numpy(x).to(device), compiled=name == "compiled")
        if not np.array_equal(first, indices):
            raise SystemExit(f"{case.title}: the package chose other codes, so the two cannot be compared")
    taken = interleaved(functions, rounds=rounds, warmup=3, inner=5)
    peer = "vector-quantize-pytorch, {}"
    return [compare(case.title, taken["ours"], peer.format(name), taken[name]) for name in peers]


def ours_of(config: VQConfig, state: VQState, x: jax.Array) -> tuple:
    """A training call that carries its codebook on, and the indices of a first one."""
    quantizer = VectorQuantizer(config)

    def loss(x: jax.Array, state: VQState, key: jax.Array) -> tuple:
        out = quantizer(state, x, train=True, key=key)
        return jnp.sum(out.quantized**2) + out.loss, (out.state, out.indices)

    step = jax.jit(jax.grad(loss, has_aux=True))
    key = jax.random.key(0)
    indices = np.asarray(step(x, state, key)[1][1])
    held = [state]

    def call() -> None:
        _, (held[0], _) = jax.block_until_ready(step(x, held[0], key))

    return call, indices


def theirs_of(peer: torch.nn.Module, x: torch.Tensor, *, compiled: bool) -> tuple:
    """As `ours_of` for the package's module."""
    x = x.requires_grad_()
    run = torch.compile(peer) if compiled else peer

    def call() -> torch.Tensor:
        quantized, indices, loss = run(x)
        torch.autograd.grad(quantized.square().sum() + loss.sum(), x)
        if x.is_cuda:
            torch.cuda.synchronize()
        return indices

    return call, call().cpu().numpy()


def main() -> None:
    options = arguments(__doc__, rounds=30, devices=("cpu", "cuda")).parse_args()
    device, place = choose_devices(options.device)
    rounds = 3 if options.quick else options.rounds
    chosen = cases(quick=options.quick)
    peers = ("eager",) if options.quick else ("eager", "compiled")  # compiling takes a minute
    rows = [row for case in chosen for row in measure(case, rounds=rounds, device=device, place=place, peers=peers)]
    finish("quantizer", "Vector quantiser, training call", rows, options)


if __name__ == "__main__":
    main()
