"""Which runtime draws the frames of play: the one that was named, or the fastest of a short measurement.

A runtime counts only where its frames are those of the eager one: at most `TOLERANCE` grey levels apart anywhere, and
`MEAN_TOLERANCE` on average, on w drawn from the corpus's statistics. What was measured is kept for this machine, these
versions and this decoder (`measured`), so the next start takes no time.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_bridge.mobile_stylegan import PlayDecoder
from torch_bridge.runtimes.kinds import FrameRuntime, make_runtime
from torch_bridge.runtimes.measured import (
    Chosen,
    Unavailable,
    checksum,
    fault_between,
    keep,
    kept,
    machine_key,
    medians,
)

NAMED = ("eager", "onnx", "openvino", "compile")
RUNTIMES = (*NAMED, "auto", "measure")
MEASURED = ("eager", "onnx", "openvino")
COMPILED_ABOVE = 0.010  # seconds a frame: a decoder that these draw faster is not worth a minute of compiling


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
    known = None if wanted == "measure" else kept(key, NAMED)
    if known is not None:
        try:
            return make_runtime(known.name, decoder, probes_NLD[:1]), known
        except Unavailable:  # something was taken away since
            pass
    runtime, chosen = _measure(decoder, probes_NLD)
    keep(key, chosen)
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
        return medians({name: _drawing(runtime, probes_NLD[:1]) for name, runtime in ready.items()})

    seconds = measured(MEASURED)
    if min(seconds.values()) > COMPILED_ABOVE:
        seconds = measured(("compile",))  # the others again: figures of the same rounds
    name = min(seconds, key=lambda one: seconds[one])
    return ready[name], Chosen(name, "measured", seconds, left_out)


def _fault(runtime: FrameRuntime, reference: FrameRuntime, probes_NLD: Tensor) -> str:
    return fault_between((runtime(w[None]), reference(w[None])) for w in probes_NLD)


def _drawing(runtime: FrameRuntime, w_BLD: Tensor) -> Callable[[], Tensor]:
    return lambda: runtime(w_BLD).cpu()


def _key(decoder: PlayDecoder, probes_NLD: Tensor) -> dict[str, Any]:
    """All that the choice depends on."""
    device = probes_NLD.device
    return machine_key("torch", "onnxruntime", "openvino") | {
        "choice": "runtime",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "decoder": asdict(decoder.config),
        "fixed_noise": decoder.fixed_noise,
        "rows": probes_NLD.shape[1],
        "weights": checksum(tensor.detach().cpu().numpy() for tensor in decoder.state_dict().values()),
    }
