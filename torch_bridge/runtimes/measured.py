"""A choice among ways to compute the same frames: what was measured, whether they agree, what is kept of it."""

import os
import platform
import statistics
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from torch_bridge.runtimes import cache

TOLERANCE, MEAN_TOLERANCE = 2, 0.5  # grey levels of 0..255
LEAST_PSNR, WORST_PSNR = 35.0, 32.0  # dB, of frames from rounded products beside the exact ones; of any one of them
MEASURE_SECONDS = 1.0


class Unavailable(ValueError):
    """This machine, or this installation, cannot compute so: the text says why."""


@dataclass(frozen=True)
class Chosen:
    """What was taken, and why.

    Attributes:
        name: of a runtime, or of the form of the weights.
        how: "named", "measured" or "cached".
        seconds: median seconds of each that was measured.
        left_out: those that were not, with the reason.
    """

    name: str
    how: str = "named"
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for a person."""
        times = ", ".join(f"{name} {s * 1000:.1f} ms" for name, s in sorted(self.seconds.items(), key=lambda i: i[1]))
        left = ", ".join(self.left_out)
        return f"{self.name} ({self.how}{': ' + times if times else ''}{'; left out: ' + left if left else ''})"


def fault_between(pairs: Iterable[tuple[UInt8[Tensor, "B H W C"], UInt8[Tensor, "B H W C"]]]) -> str:
    """What is wrong with frames beside those that they should be; "" for nothing."""
    apart = torch.stack([(ours.int() - theirs.int()).abs() for ours, theirs in pairs])
    most, mean = int(apart.max()), float(apart.float().mean())
    if most <= TOLERANCE and mean <= MEAN_TOLERANCE:
        return ""
    return f"up to {most} grey levels apart, {mean:.2f} on average"


def fault_of_rounding(pairs: Iterable[tuple[UInt8[Tensor, "B H W C"], UInt8[Tensor, "B H W C"]]]) -> str:
    """`fault_between` for frames whose products were rounded: they are others, and must look the same."""
    squares = torch.stack([(ours.float() - theirs.float()).square().mean() for ours, theirs in pairs])
    for square, kind, least in ((squares.mean(), "", LEAST_PSNR), (squares.max(), " for one frame", WORST_PSNR)):
        psnr = float(10 * torch.log10(255**2 / square.clamp(min=1e-9)))
        if psnr < least:
            return f"a PSNR of {psnr:.1f} dB{kind}, and {least:g} are wanted"
    return ""


def medians(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each call, which returns when its work is done.

    In turn until `MEASURE_SECONDS` are over, at least three times. Each follows a call of its own, as in play.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    began, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - began < MEASURE_SECONDS:
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def keep(key: dict[str, Any], chosen: Chosen) -> None:
    """Keep a choice for this machine."""
    cache.write(key, asdict(chosen))


def kept(key: dict[str, Any], names: Iterable[str]) -> Chosen | None:
    """What was measured before; None where there is nothing or nothing of use."""
    found = cache.read(key)
    try:
        seconds = {str(name): float(value) for name, value in found["seconds"].items()}
        left_out = {str(name): str(value) for name, value in found["left_out"].items()}
        return Chosen(found["name"], "cached", seconds, left_out) if found["name"] in names else None
    except (TypeError, KeyError, AttributeError, ValueError):
        return None


def machine_key(*packages: str) -> dict[str, Any]:
    """What of this machine and its installation a choice depends on."""
    versions = {name: _version(name) for name in packages}
    return {"schema": 5, "machine": cpu_model(), "cores": usable_cores(), "versions": versions}


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checksum(arrays: Iterable[np.ndarray]) -> int:
    """CRC-32 of arrays: whether frames agree is a matter of the weights and of what they are given."""
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), total)
    return total


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
