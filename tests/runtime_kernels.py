"""What OpenVINO made of a network."""

import platform
from typing import Any

NAMES_KERNELS = platform.machine() in ("x86_64", "AMD64")  # others name them otherwise


def integer_convolutions(runtime: Any) -> int:
    """Convolutions of a runtime of OpenVINO that compute with integers."""
    told = [node.get_rt_info() for node in runtime.request.get_compiled_model().get_runtime_model().get_ops()]
    kinds = [one["primitiveType"].astype(str) for one in told if one["layerType"].astype(str).endswith("Convolution")]
    return sum(kind.upper().endswith("I8") for kind in kinds)
