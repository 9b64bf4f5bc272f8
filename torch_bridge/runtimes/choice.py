"""Which runtime computes a network of play: the one that was named, or the fastest of a short measurement.

A runtime counts only where its results are those of the eager one: frames at most `TOLERANCE` grey levels apart
anywhere, and `MEAN_TOLERANCE` on average, w at most `W_TOLERANCE` deviations; on w drawn from the corpus's statistics,
and on their frames. Frames of the one that computes in integers, and frames of the w that it finds, must be like them
to `LEAST_PSNR`, each to `WORST_PSNR`. What was measured is kept for this machine, these versions and this network
(`measured`), so the next start need not measure.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_bridge.runtimes.kinds import ROUNDED, Runtime, make_runtime
from torch_bridge.runtimes.measured import Chosen, Unavailable, keep, kept, machine_key, medians
from torch_bridge.runtimes.parts import Part

NAMED = ("eager", "onnx", "openvino", ROUNDED, "compile")
RUNTIMES = (*NAMED, "auto", "measure")
MEASURED = ("eager", "onnx", "openvino", ROUNDED)
COMPILED_ABOVE = 0.010  # seconds: a network that these compute faster is not worth a minute of compiling


def choose_runtime(wanted: str, part: Part) -> tuple[Runtime, Chosen]:
    """The runtime of a network of play, and what is known of it.

    Args:
        wanted: a runtime's name; "auto" for the fastest, measured once on this machine; "measure" to measure anew.
        part: the network.

    Raises:
        ValueError: there is no such runtime, this machine cannot run it, or its results are not those of the eager one.
    """
    if wanted not in RUNTIMES:
        raise ValueError(f"There is no runtime {wanted!r}. Choose one of {', '.join(RUNTIMES)}.")
    if wanted == "eager":
        return make_runtime("eager", part.network, None), Chosen("eager")
    if wanted in NAMED:
        runtime = _made(wanted, part)
        if fault := _fault(wanted, runtime, make_runtime("eager", part.network, None), part):
            raise ValueError(f"The runtime {wanted!r} has {part.makes}: {fault}. Choose another runtime.")
        return runtime, Chosen(wanted)
    key = _key(part)
    known = None if wanted == "measure" else kept(key, NAMED)
    if known is not None:
        try:
            runtime = _made(known.name, part)
            # How well rounding goes depends on latents that the key does not know.
            if known.name != ROUNDED or not _fault(ROUNDED, runtime, make_runtime("eager", part.network, None), part):
                return runtime, known
        except Unavailable:  # something was taken away since
            pass
    runtime, chosen = _measure(part)
    keep(key, chosen)
    return runtime, chosen


def probes(
    mean_LD: Float[np.ndarray, "L D"], std_LD: Float[np.ndarray, "L D"], count: int = 4
) -> Float[Tensor, "N L D"]:
    """w drawn from the statistics of a corpus, the same at every call."""
    normal_NLD = np.random.default_rng(0).normal(size=(count, *mean_LD.shape))
    return torch.from_numpy((mean_LD + std_LD * normal_NLD).astype(np.float32))


def _made(name: str, part: Part) -> Runtime:
    return make_runtime(name, part.network, part.probes()[:1])


def _measure(part: Part) -> tuple[Runtime, Chosen]:
    ready: dict[str, Runtime] = {}
    left_out: dict[str, str] = {}

    def measured(names: tuple[str, ...]) -> dict[str, float]:
        for name in names:
            try:
                runtime = _made(name, part)
                fault = _fault(name, runtime, ready["eager"], part) if ready else ""
            except Unavailable as error:
                fault = str(error)
            if fault:
                left_out[name] = fault
            else:
                ready[name] = runtime
        return medians({name: _computing(runtime, part.probes()[:1]) for name, runtime in ready.items()})

    seconds = measured(MEASURED)
    if part.compiled and min(seconds.values()) > COMPILED_ABOVE:
        seconds = measured(("compile",))  # the others again: figures of the same rounds
    name = min(seconds, key=lambda one: seconds[one])
    return ready[name], Chosen(name, "measured", seconds, left_out)


def _fault(name: str, runtime: Runtime, reference: Runtime, part: Part) -> str:
    return part.fault(name, ((runtime(probe[None]), reference(probe[None])) for probe in part.probes()))


def _computing(runtime: Runtime, probe: Tensor) -> Callable[[], Tensor]:
    return lambda: runtime(probe).cpu()


def _key(part: Part) -> dict[str, Any]:
    """All that the choice depends on."""
    device = part.probes().device
    return machine_key("torch", "onnxruntime", "openvino") | {
        "choice": "runtime",
        "candidates": MEASURED,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        **part.key(),
    }
