"""The machine that figures were taken on: what it is, and the rates that are its limits.

`python benchmarks/machine.py` prints both.
"""

import datetime
import importlib.metadata
import json
import os
import platform
from typing import Any

import jax
import torch
from timing import Times, interleaved

from torch_bridge.runtimes.measured import cpu_model, usable_cores

PACKAGES = (
    "torch",
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "onnxruntime",
    "openvino",
    "x-transformers",
    "vector-quantize-pytorch",
    "av",
)


def describe() -> dict[str, Any]:
    """CPU model, cores that this process may use, threads, GPU if any, memory, versions and the date."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "jax": jax.devices()[0].device_kind,
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


class Matmul:
    """Square float32 matrix product in PyTorch: call it to do one, for `interleaved`.

    Attributes:
        flop: operations of a call, two a multiply-add.
    """

    def __init__(self, size: int = 1536, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.a, self.b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        self.out = torch.empty_like(self.a)
        self.flop = 2 * size**3

    def __call__(self) -> None:
        torch.matmul(self.a, self.b, out=self.out)
        if self.out.is_cuda:
            torch.cuda.synchronize()


class Copy:
    """A copy of memory far larger than the caches, in PyTorch: call it to do one, for `interleaved`.

    Attributes:
        octets: read and written by a call.
    """

    def __init__(self, mib: int = 512, *, device: str = "cpu") -> None:
        self.source = torch.zeros(mib * 2**20, dtype=torch.uint8, device=device)
        self.target = torch.empty_like(self.source).copy_(self.source)
        self.octets = 2 * self.source.numel()

    def __call__(self) -> None:
        self.target.copy_(self.source)
        if self.target.is_cuda:
            torch.cuda.synchronize()


def matmul_flops(threads: int | None = None, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> float:
    """Operations a second of a large matrix product: the median of ten.

    Args:
        threads: of PyTorch meanwhile; None for those that it has.
        dtype, device: of the matrices.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        product = Matmul(1536 if device == "cpu" else 8192, dtype=dtype, device=device)
        return product.flop / _times(product).median
    finally:
        torch.set_num_threads(before)


def copy_bytes(*, device: str = "cpu") -> float:
    """Bytes a second that a large copy reads and writes (both count): the median of ten."""
    copy = Copy(device=device)
    return copy.octets / _times(copy).median


def _times(function: Matmul | Copy) -> Times:
    return interleaved({"it": function}, rounds=10)["it"]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    rates = {"float32_gflops": matmul_flops() / 1e9, "copy_gb_s": copy_bytes() / 1e9}
    print(json.dumps({**describe(), **rates}, indent=2))
