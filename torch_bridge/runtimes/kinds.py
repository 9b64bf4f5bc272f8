"""Runtimes: callables from one tensor to one tensor on the same device, made for a network of play at batch 1.

`make_runtime` builds one by its name and raises `Unavailable` where this machine cannot run it.
"""

import contextlib
import functools
import importlib.util
import io
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_bridge.rounding import WEIGHT_TOP
from torch_bridge.runtimes.measured import Unavailable, usable_cores

Runtime = Callable[[Tensor], Tensor]
ROUNDED = "openvino-int8"  # the runtime with products in 8-bit integers

_MAKING = threading.Lock()  # the core of OpenVINO


def make_runtime(name: str, network: Callable[[str], nn.Module], example: Tensor | None) -> Runtime:
    """The runtime of a name, compiled for inputs of the shape of `example`.

    Args:
        name: "eager", "onnx", "openvino", ROUNDED, "compile".
        network: what it computes, by the runtime's name, on its device; `Staged` for `Stages`.
        example: one input, on that device; None for "eager", which takes any shape.

    Raises:
        Unavailable: see there.
        ValueError: there is no such name.
    """
    makers = {
        "eager": EagerRuntime,
        "onnx": OnnxRuntime,
        "openvino": OpenVinoRuntime,
        ROUNDED: OpenVinoRuntime,  # of another network
        "compile": CompiledRuntime,
    }
    if name not in makers:
        raise ValueError(f"There is no runtime {name!r}. Choose one of {', '.join(makers)}.")
    make = makers[name]
    if example is not None:
        make.check(example)  # first: a network may take seconds to make
    net = network(name)
    return Staged(net, make, example) if isinstance(net, Stages) else make(net, example)


def _require(title: str, example: Tensor, *packages: str) -> None:
    if example.device.type != "cpu":
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


class Stages(nn.Sequential):
    """A network whose parts play computes at different times."""


class Staged:
    """A runtime for each of `Stages`; the whole is one as well.

    Attributes:
        stages: of which each takes what the one before made.
    """

    def __init__(self, nets: Stages, make: Callable[..., Runtime], example: Tensor | None) -> None:
        self.stages: list[Runtime] = []
        for net in nets:
            self.stages.append(make(net, example))
            if example is not None:
                example = self.stages[-1](example)

    def __call__(self, given: Tensor) -> Tensor:
        for stage in self.stages:
            given = stage(given)
        return given


class EagerRuntime:
    """PyTorch as it is."""

    title = "PyTorch"

    @staticmethod
    def check(example: Tensor) -> None:
        """It runs everywhere."""

    def __init__(self, net: nn.Module, example: Tensor | None = None) -> None:
        del example
        self.net = net

    @torch.inference_mode()
    def __call__(self, given: Tensor) -> Tensor:
        return self.net(given)


class CompiledRuntime:
    """`torch.compile` with frozen weights; it needs a C++ compiler on a CPU and takes up to a minute."""

    title = "torch.compile"

    @staticmethod
    def check(example: Tensor) -> None:
        """Raises Unavailable where it cannot run."""
        compiler = os.environ.get("CXX", "g++")
        if example.device.type == "cpu" and not any(shutil.which(name) for name in (compiler, "clang++")):
            raise Unavailable("torch.compile needs a C++ compiler, and there is none. Install g++ or name it in CXX.")

    def __init__(self, net: nn.Module, example: Tensor) -> None:
        # Frozen: weights are constants, laid out once as the convolutions want them.
        self.compiled = torch.compile(net, dynamic=False, options={"freezing": True})
        with _failing(self.title):
            self(example)

    @torch.inference_mode()
    def __call__(self, given: Tensor) -> Tensor:
        return self.compiled(given)


class OnnxRuntime:
    """ONNX Runtime on the CPU, with as many threads as PyTorch has; exported in memory."""

    title = "ONNX Runtime"

    @classmethod
    def check(cls, example: Tensor) -> None:
        """Raises Unavailable where it cannot run."""
        _require(cls.title, example, "onnx", "onnxruntime")

    def __init__(self, net: nn.Module, example: Tensor) -> None:
        with _failing(self.title):
            self.session = self._session(net, example)
            self(example)

    @staticmethod
    def _session(net: nn.Module, example: Tensor) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads shall not spin while the dynamics computes on the same cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(exported(net, example), options, providers=["CPUExecutionProvider"])

    def __call__(self, given: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(["result"], {"given": given.numpy()})[0])


@functools.cache
def _made_core() -> Any:
    with _not_importable("openvino_telemetry"):  # by which importing OpenVINO is reported over the network
        import openvino
    return openvino.Core()


def _openvino_core() -> Any:
    """The process's one core of OpenVINO.

    A core gives its thread a stack for signals, and restores the one before when it goes. If several are destroyed in
    another order than last made, first gone, one restores a stack already freed, and the next Ctrl-C is a segmentation
    fault.
    """
    with _MAKING:
        return _made_core()


class OpenVinoRuntime:
    """OpenVINO on the CPU in float32, with as many threads as PyTorch has; products of rounded numbers in integers.

    Its threads sleep between calls, as the dynamics computes on the same cores. Where they are as many as these, each
    keeps its core: else two of them would at times wake up on one. Fewer are bound to none, as every process would
    begin with the same cores.
    """

    title = "OpenVINO"

    @classmethod
    def check(cls, example: Tensor) -> None:
        """Raises Unavailable where it cannot run."""
        _require(cls.title, example, "openvino")

    def __init__(self, net: nn.Module, example: Tensor) -> None:
        self.turn = threading.Lock()  # a request computes one input at a time
        with _failing(self.title):
            self.request = self._request(net, example)
            self.given, self.result = self.request.get_input_tensor().data, self.request.get_output_tensor().data
            self(example)

    @staticmethod
    def _request(net: nn.Module, example: Tensor) -> Any:
        core = _openvino_core()
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        frontend = FrontEndManager().load_by_framework("pytorch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit's age, and of shapes that are fixed here on purpose
            once = {"check_trace": False}  # results are compared later; computing them again takes half of the time
            traced = TorchScriptPythonDecoder(net, example_input=example, trace_kwargs=once)
            model = frontend.convert(frontend.load(traced))
        model.reshape({0: list(example.shape)})
        _mark_integers(model)
        threads = torch.get_num_threads()
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": threads >= usable_cores(),
        }
        return core.compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, given: Tensor) -> Tensor:
        array = given.numpy()
        if array.shape != self.given.shape:  # what follows would repeat some
            raise ValueError(f"This runtime was made for inputs of shape {self.given.shape}, not {array.shape}.")
        with self.turn:
            np.copyto(self.given, array)  # faster than to have `infer` look at what it is given, and wrap what it gives
            self.request.infer(share_outputs=True)
            return torch.from_numpy(self.result.copy())


def _mark_integers(model: Any) -> None:
    """Weights of convolutions whose inputs are rounded (see `rounding`) are told as rounded, too.

    OpenVINO computes with integers where it finds both; 255 levels are those it knows, of which WEIGHT_TOP on either
    side are used.
    """
    from openvino import opset13
    from openvino.passes import ConstantFolding, Manager

    if not any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        return
    passes = Manager()
    passes.register_pass(ConstantFolding())  # weights are constants then, and not cuts of some
    passes.run_passes(model)
    for node in model.get_ops():
        if node.get_type_name() not in ("Convolution", "GroupConvolution"):
            continue
        given, weight = (value.get_node() for value in node.input_values())
        if given.get_type_name() != "FakeQuantize":
            continue
        peak = np.abs(weight.get_data()).max((-3, -2, -1), keepdims=True).clip(1e-12) * (127 / WEIGHT_TOP)
        rounded = opset13.fake_quantize(weight, -peak, peak, -peak, peak, 255)
        node.input(1).replace_source_output(rounded.output(0))


def exported(net: nn.Module, example: Tensor) -> bytes:
    """The network as an ONNX model for inputs of the shape of `example`."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own age, and of shapes that are fixed here on purpose
        torch.onnx.export(
            net, (example,), file, dynamo=False, input_names=["given"], output_names=["result"], opset_version=17
        )
    return file.getvalue()
