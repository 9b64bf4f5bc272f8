"""The two halves in which play encodes a frame are the encoder."""

from typing import Any

import pytest
import torch
from test_encoder import _encoder
from torch.utils.flop_counter import FlopCounterMode

from torch_bridge.images import to_float
from torch_bridge.runtimes.encode_net import encode_net
from torch_bridge.runtimes.kinds import Staged, make_runtime

CASES = {
    "b0": {},
    "b1": {"trunk": "b1"},
    "l1": {"trunk": "l1", "size": 96},
    "last stages": {"taps": (2, 3)},
    "last stage": {"taps": (3,)},
    "first stages": {"taps": (0, 1)},
    "w+": {"rows": 5},
    "map": {"rows": 6, "spatial": 4},
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_halves_are_the_encoder(case: str) -> None:
    encoder = _encoder(**CASES[case])
    size = encoder.config.size
    frames = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    first, second = encode_net(encoder)
    begun = first(frames)
    assert begun.ndim == 2
    assert torch.equal(second(begun), encoder(to_float(frames)))


@pytest.mark.parametrize("trunk", ["b0", "b1"])
@torch.no_grad()
def test_both_halves_work(trunk: str) -> None:
    """Neither half does all of it: by the multiply-adds of convolutions and products."""
    encoder = _encoder(trunk=trunk, size=256)
    shares = []
    given: Any = torch.zeros(1, 256, 256, 3, dtype=torch.uint8)
    for half in encode_net(encoder):
        with FlopCounterMode(display=False) as counter:
            given = half(given)
        shares.append(counter.get_total_flops())
    assert 0.3 < shares[0] / sum(shares) < 0.7


@pytest.mark.parametrize("taps", [(3,), (1, 2, 3)])  # nothing or something on the grid in the first half
@pytest.mark.parametrize("name", ["eager", "onnx", "openvino"])
@torch.no_grad()
def test_a_runtime_has_the_halves_as_stages(name: str, taps: tuple[int, ...]) -> None:
    encoder = _encoder(taps=taps)
    frames = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    runtime = make_runtime(name, lambda _: encode_net(encoder), None if name == "eager" else frames)
    assert isinstance(runtime, Staged)
    first, second = runtime.stages
    expected = encoder(to_float(frames))
    torch.testing.assert_close(second(first(frames)), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(runtime(frames), expected, rtol=0, atol=1e-4)
