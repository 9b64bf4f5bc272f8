"""Which runtime draws the frames of play: the one that was named, or the fastest of a short measurement.

A runtime counts only where its frames are those of the eager one: at most `TOLERANCE` grey levels apart anywhere, and
`MEAN_TOLERANCE` on average, on w drawn from the corpus's statistics. What was measured is kept for this machine, these
versions and this decoder (`cache`), so the next start takes no time.
"""

import platform
import statistics
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_bridge.mobile_stylegan import PlayDecoder
from torch_bridge.runtimes import cache
from torch_bridge.runtimes.kinds import FrameRuntime, Unavailable, make_runtime

NAMED = ("eager", "onnx", "openvino", "compile")
RUNTIMES = (*NAMED, "auto", "measure")
MEASURED = ("eager", "onnx", "openvino")
COMPILED_ABOVE = 0.010  # seconds a frame: a decoder that these draw faster is not worth a minute of compiling
TOLERANCE, MEAN_TOLERANCE = 2, 0.5  # grey levels of 0..255
MEASURE_SECONDS = 1.0


@dataclass(frozen=True)
class Chosen:
    """The runtime that was taken, and why.

    Attributes:
        name: of the runtime.
        how: "named", "measured" or "cached".
        seconds: median seconds a frame of each runtime that was measured.
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


def choose_runtime(
    wanted: str, decoder: PlayDecoder, probes_NLD: Float[Tensor, "N L D"]
) -> tuple[FrameRuntime, Chosen]:
    """The runtime for play, and what is known of it.

    Args:
        wanted: a runtime's name; "auto" for the fastest, measured once on this machine; "measure" to measure anew.
        decoder: for play, on its device.
        probes_NLD: w as play has them, on that device.

    Raises:
        ValueError: there is no such runtime, this machine cannot run it, or its frames are not those of the eager one.
    """
    if wanted not in RUNTIMES:
        raise ValueError(f"There is no runtime {wanted!r}. Choose one of {', '.join(RUNTIMES)}.")
    if wanted in NAMED:
        runtime = make_runtime(wanted, decoder, probes_NLD[:1])
        if wanted != "eager" and (fault := _fault(runtime, make_runtime("eager", decoder, probes_NLD), probes_NLD)):
            raise ValueError(f"The runtime {wanted!r} draws other frames: {fault}. Choose another runtime.")
        return runtime, Chosen(wanted)
    key = _key(decoder, probes_NLD)
    known = None if wanted == "measure" else _read(key)
    if known is not None:
        try:
            return make_runtime(known.name, decoder, probes_NLD[:1]), known
        except Unavailable:  # something was taken away since
            pass
    runtime, chosen = _measure(decoder, probes_NLD)
    cache.write(key, asdict(chosen))
    return runtime, chosen


def probes(
    mean_LD: Float[np.ndarray, "L D"], std_LD: Float[np.ndarray, "L D"], count: int = 4
) -> Float[Tensor, "N L D"]:
    """w drawn from the statistics of a corpus, the same at every call."""
    normal_NLD = np.random.default_rng(0).normal(size=(count, *mean_LD.shape))
    return torch.from_numpy((mean_LD + std_LD * normal_NLD).astype(np.float32))


def _measure(decoder: PlayDecoder, probes_NLD: Tensor) -> tuple[FrameRuntime, Chosen]:
    ready: dict[str, FrameRuntime] = {}
    left_out: dict[str, str] = {}

    def measured(names: tuple[str, ...]) -> dict[str, float]:
        for name in names:
            try:
                runtime = make_runtime(name, decoder, probes_NLD[:1])
                fault = _fault(runtime, ready["eager"], probes_NLD) if ready else ""
            except Unavailable as error:
                fault = str(error)
            if fault:
                left_out[name] = fault
            else:
                ready[name] = runtime
        return _medians({name: _timed(runtime, probes_NLD[:1]) for name, runtime in ready.items()})

    seconds = measured(MEASURED)
    if min(seconds.values()) > COMPILED_ABOVE:
        seconds = measured(("compile",))  # the others again: figures of the same rounds
    name = min(seconds, key=lambda one: seconds[one])
    return ready[name], Chosen(name, "measured", seconds, left_out)


def _fault(runtime: FrameRuntime, reference: FrameRuntime, probes_NLD: Tensor) -> str:
    """What is wrong with the frames of a runtime; "" for nothing."""
    pairs = [(runtime(w[None]), reference(w[None])) for w in probes_NLD]
    apart = torch.stack([(ours.int() - theirs.int()).abs() for ours, theirs in pairs])
    most, mean = int(apart.max()), float(apart.float().mean())
    if most <= TOLERANCE and mean <= MEAN_TOLERANCE:
        return ""
    return f"up to {most} grey levels apart, {mean:.2f} on average"


def _timed(runtime: FrameRuntime, w_BLD: Tensor) -> Callable[[], float]:
    def one() -> float:
        began = time.perf_counter()
        runtime(w_BLD).cpu()
        return time.perf_counter() - began

    return one


def _medians(timed: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Median seconds of each, in turn until `MEASURE_SECONDS` are over, at least three times."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    began, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - began < MEASURE_SECONDS:
        for name, one in timed.items():
            taken[name].append(one())
        rounds += 1
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _key(decoder: PlayDecoder, probes_NLD: Tensor) -> dict[str, Any]:
    """All that the choice depends on."""
    device = probes_NLD.device
    return {
        "schema": 2,
        "machine": cpu_model(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "versions": {name: _version(name) for name in ("torch", "onnxruntime", "openvino")},
        "decoder": asdict(decoder.config),
        "fixed_noise": decoder.fixed_noise,
        "rows": probes_NLD.shape[1],
        "weights": _checksum(decoder),
    }


def _checksum(decoder: PlayDecoder) -> int:
    """CRC-32 of all weights: the tolerance is a matter of theirs."""
    total = 0
    for tensor in decoder.state_dict().values():
        total = zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), total)
    return total


def _read(key: dict[str, Any]) -> Chosen | None:
    """What was measured before; None where there is nothing or nothing of use."""
    found = cache.read(key)
    try:
        seconds = {str(name): float(value) for name, value in found["seconds"].items()}
        left_out = {str(name): str(value) for name, value in found["left_out"].items()}
        return Chosen(found["name"], "cached", seconds, left_out) if found["name"] in NAMED else None
    except (TypeError, KeyError, AttributeError, ValueError):
        return None


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
