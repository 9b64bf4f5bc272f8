"""Runtimes: callables `(w_BLD float32 on the device) -> frames uint8 (B, H, W, 3)`, made for one frame at a time.

`make_runtime` builds one by its name and raises `Unavailable` where this machine cannot run it.
"""

import contextlib
import importlib.util
import io
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from torch_bridge.mobile_stylegan import PlayDecoder
from torch_bridge.runtimes.frame_net import FrameNet
from torch_bridge.runtimes.measured import Unavailable

FrameRuntime = Callable[[Float[Tensor, "B L D"]], UInt8[Tensor, "B H W C"]]


def make_runtime(name: str, decoder: PlayDecoder, w_BLD: Float[Tensor, "B L D"]) -> FrameRuntime:
    """The runtime of a name, compiled for inputs of the shape of `w_BLD`.

    Args:
        name: "eager", "onnx", "openvino", "compile".
        decoder: for play, on its device.
        w_BLD: one w, on the device of the decoder.

    Raises:
        Unavailable: see there.
        ValueError: there is no such name.
    """
    makers = {
        "eager": lambda: EagerRuntime(FrameNet(decoder)),
        "onnx": lambda: OnnxRuntime(FrameNet(decoder), w_BLD),
        "openvino": lambda: OpenVinoRuntime(FrameNet(decoder.channels_first()), w_BLD),
        "compile": lambda: CompiledRuntime(FrameNet(decoder), w_BLD),
    }
    if name not in makers:
        raise ValueError(f"There is no runtime {name!r}. Choose one of {', '.join(makers)}.")
    return makers[name]()


def _require(title: str, w_BLD: Tensor, *packages: str) -> None:
    if w_BLD.device.type != "cpu":
        raise Unavailable(f"{title} is used on a CPU alone. Choose another runtime for this device.")
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise Unavailable(f"{title} needs {' and '.join(missing)}. Run: pip install {' '.join(missing)}")


@contextlib.contextmanager
def _failing(title: str) -> Iterator[None]:
    """Whatever a library raises, which promises no class of errors, says that the runtime is not to be had."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Unavailable(f"{title} fails here: {reason}. Choose another runtime.") from error


@contextlib.contextmanager
def _not_importable(package: str) -> Iterator[None]:
    """An optional package counts as missing."""
    missing = object()
    before = sys.modules.get(package, missing)
    sys.modules[package] = None
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[package]
        else:
            sys.modules[package] = before


class EagerRuntime:
    """PyTorch as it is."""

    def __init__(self, net: FrameNet) -> None:
        self.net = net

    @torch.inference_mode()
    def __call__(self, w_BLD: Float[Tensor, "B L D"]) -> UInt8[Tensor, "B H W C"]:
        return self.net(w_BLD)


class CompiledRuntime:
    """`torch.compile` with frozen weights; it needs a C++ compiler on a CPU and takes up to a minute."""

    def __init__(self, net: FrameNet, w_BLD: Float[Tensor, "B L D"]) -> None:
        compiler = os.environ.get("CXX", "g++")
        if w_BLD.device.type == "cpu" and not any(shutil.which(name) for name in (compiler, "clang++")):
            raise Unavailable("torch.compile needs a C++ compiler, and there is none. Install g++ or name it in CXX.")
        # Frozen: weights are constants, laid out once as the convolutions want them.
        self.compiled = torch.compile(net, dynamic=False, options={"freezing": True})
        with _failing("torch.compile"):
            self(w_BLD)

    @torch.inference_mode()
    def __call__(self, w_BLD: Float[Tensor, "B L D"]) -> UInt8[Tensor, "B H W C"]:
        return self.compiled(w_BLD)


class OnnxRuntime:
    """ONNX Runtime on the CPU, with as many threads as PyTorch has; exported in memory."""

    def __init__(self, net: FrameNet, w_BLD: Float[Tensor, "B L D"]) -> None:
        _require("ONNX Runtime", w_BLD, "onnx", "onnxruntime")
        with _failing("ONNX Runtime"):
            self.session = self._session(net, w_BLD)
            self(w_BLD)

    @staticmethod
    def _session(net: FrameNet, w_BLD: Float[Tensor, "B L D"]) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads shall not spin while the dynamics computes on the same cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(exported(net, w_BLD), options, providers=["CPUExecutionProvider"])

    def __call__(self, w_BLD: Float[Tensor, "B L D"]) -> UInt8[Tensor, "B H W C"]:
        return torch.from_numpy(self.session.run(["frames"], {"w": w_BLD.numpy()})[0])


class OpenVinoRuntime:
    """OpenVINO on the CPU in float32, with as many threads as PyTorch has; the network moves data channels-first.

    Its threads sleep between frames and are bound to no core, as the dynamics computes on the same cores.
    """

    def __init__(self, net: FrameNet, w_BLD: Float[Tensor, "B L D"]) -> None:
        _require("OpenVINO", w_BLD, "openvino")
        self.turn = threading.Lock()  # a request computes one frame at a time
        with _failing("OpenVINO"):
            self.request = self._request(net, w_BLD)
            self(w_BLD)

    @staticmethod
    def _request(net: FrameNet, w_BLD: Float[Tensor, "B L D"]) -> Any:
        with _not_importable("openvino_telemetry"):  # by which importing OpenVINO is reported over the network
            import openvino
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        frontend = FrontEndManager().load_by_framework("pytorch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit's age, and of shapes that are fixed here on purpose
            traced = TorchScriptPythonDecoder(net, example_input=w_BLD)
            model = frontend.convert(frontend.load(traced))
        model.reshape({0: list(w_BLD.shape)})
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        return openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, w_BLD: Float[Tensor, "B L D"]) -> UInt8[Tensor, "B H W C"]:
        with self.turn:
            return torch.from_numpy(self.request.infer({0: w_BLD.numpy()}, share_inputs=True, share_outputs=False)[0])


def exported(net: FrameNet, w_BLD: Float[Tensor, "B L D"]) -> bytes:
    """The network as an ONNX model for inputs of the shape of `w_BLD`."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own age, and of shapes that are fixed here on purpose
        torch.onnx.export(
            net, (w_BLD,), file, dynamo=False, input_names=["w"], output_names=["frames"], opset_version=17
        )
    return file.getvalue()
