"""Products rounded for integers: of single convolutions, and of the encoder."""

from typing import Any

import pytest
import torch
from runtime_kernels import NAMES_KERNELS, integer_convolutions
from test_encoder import _encoder
from torch import nn

from torch_bridge.encoder import Encoder
from torch_bridge.images import to_float
from torch_bridge.layers import SLOPE
from torch_bridge.play_encoder import HeadsApart, with_heads_apart, with_rounded_products
from torch_bridge.play_layers import FoldedConv
from torch_bridge.rounding import INPUT_TOP, WEIGHT_TOP, RoundedConv, round_product, watched_peaks
from torch_bridge.runtimes import encoder_part, measured
from torch_bridge.runtimes.kinds import ROUNDED, Staged, make_runtime


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("depthwise", [True, False])
def test_a_rounded_product_is_one_of_integers(depthwise: bool) -> None:
    conv, w_BD = FoldedConv(6, 4, 8, depthwise=depthwise), torch.ones(1, 8)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))))
        conv.weight[1] = 0.0
    unstyled = torch.randn(1, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    x = unstyled * conv.style(w_BD)
    exact = conv(x, None)
    conv.round_product(conv.gather(x).abs().amax((0, 2, 3)))
    x = unstyled * conv.style(w_BD)
    gathered, step = conv.gather(x), conv.input_step
    assert gathered.abs().max() <= 127.01 * step
    whole = conv.weight / conv.weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) * 63
    torch.testing.assert_close(whole, whole.round(), atol=1e-4, rtol=0)
    integers = torch.nn.functional.conv2d((gathered / step).round(), whole.round(), padding=0 if depthwise else 1)
    scale = step * conv.weight.abs().amax((1, 2, 3)) / 63
    by_hand = torch.nn.functional.leaky_relu(integers * scale[:, None, None] + conv.bias[:, None, None], SLOPE)
    torch.testing.assert_close(conv(x, None), by_hand)
    assert 0 < (by_hand - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("bias", [True, False])
def test_a_rounded_convolution_is_one_of_integers(groups: int, bias: bool) -> None:
    conv = nn.Conv2d(6, 6 if groups == 6 else 4, 3, stride=2, padding=1, groups=groups, bias=bias)
    size = torch.tensor([0.01, 0.1, 1.0, 1.0, 10.0, 0.0])  # of channels
    x = random(2, 6, 9, 7) * size[:, None, None]
    with torch.no_grad():
        conv.weight.copy_(random(*conv.weight.shape, seed=1))
        exact = conv(x)
        peak_I = x.abs().amax((0, 2, 3))
        ours = RoundedConv(conv, peak_I)
        level_I, step, weight = round_product(conv.weight, peak_I)
        steps_O = weight.abs().amax((1, 2, 3)) / WEIGHT_TOP
        inputs = (x / level_I[:, None, None] / step).round()
        assert inputs.abs().max() == INPUT_TOP
        integers = nn.functional.conv2d(
            inputs, (weight / steps_O[:, None, None, None]).round(), stride=2, padding=1, groups=groups
        )
        by_hand = integers * (step * steps_O)[:, None, None] + (conv.bias[:, None, None] if bias else 0)
        torch.testing.assert_close(ours(x), by_hand, rtol=1e-4, atol=1e-5)
        assert 0 < (by_hand - exact).abs().max() < 0.05 * exact.abs().max()
        assert torch.equal(conv(x), exact)  # which is left as it was


def test_depthwise_channels_of_all_sizes_are_as_exact() -> None:
    """Each has a step of its own, so none costs another."""
    conv, size = nn.Conv2d(3, 3, 3, groups=3, bias=False), torch.tensor([1e-3, 1.0, 1e3])
    x = random(1, 3, 20, 20) * size[:, None, None]
    with torch.no_grad():
        conv.weight.copy_(random(*conv.weight.shape, seed=1))
        apart_I = (RoundedConv(conv, x.abs().amax((0, 2, 3)))(x) - conv(x)).abs().amax((0, 2, 3))
        assert (apart_I < 0.02 * conv(x).abs().amax((0, 2, 3))).all()


@pytest.mark.parametrize("changes", [{"groups": 2}, {"dilation": 2}, {"padding_mode": "reflect", "padding": 1}])
def test_other_convolutions_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Dense and depthwise convolutions alone"):
        RoundedConv(nn.Conv2d(4, 4, 3, **changes), torch.ones(4))


def test_peaks_are_those_of_all_calls_and_the_hooks_go() -> None:
    conv, seen = nn.Conv2d(2, 1, 1), []
    with watched_peaks([conv]) as peaks:
        for x in (torch.tensor([1.0, -5.0]), torch.tensor([-3.0, 2.0])):
            conv(x.view(1, 2, 1, 1))
    assert peaks[conv].tolist() == [3.0, 5.0]
    with watched_peaks([conv], lambda _, x: seen.append(1) or 2 * x) as peaks:
        conv(torch.ones(1, 2, 1, 1))
    assert peaks[conv].tolist() == [2.0, 2.0]
    conv(torch.ones(1, 2, 1, 1))
    assert seen == [1]


def busy_encoder(**changes: Any) -> Encoder:
    """An encoder whose norms do something, as those of a trained one."""
    encoder = _encoder(**changes)
    for number, module in enumerate(encoder.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * random(module.num_features, seed=number))
            module.running_var.copy_(0.5 + random(module.num_features, seed=number + 1).abs())
    return encoder


@pytest.mark.parametrize("changes", [{}, {"trunk": "b1"}, {"trunk": "l1", "size": 96}])
@torch.no_grad()
def test_heads_apart_are_the_same_attention(changes: dict[str, Any]) -> None:
    encoder = busy_encoder(**changes)
    size = encoder.config.size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = encoder(images)
    apart = with_heads_apart(encoder)
    torch.testing.assert_close(apart(images), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(encoder(images), before)
    layers = [one for one in apart.modules() if isinstance(one, HeadsApart)]
    assert layers
    layers[0].eps = 1e3
    assert not torch.allclose(apart(images), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"trunk": "b1"}, {"trunk": "l1", "size": 96}, {"rows": 6, "spatial": 4}])
@torch.no_grad()
def test_a_rounded_encoder_finds_nearly_the_same(changes: dict[str, Any]) -> None:
    encoder = busy_encoder(**changes)
    size = encoder.config.size
    images = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact, before = encoder(images), {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    rounded = with_rounded_products(encoder, images)
    spread = exact.std()
    assert 0 < (rounded(images) - exact).square().mean().sqrt() < 0.1 * spread
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert torch.equal(encoder(images), exact)


@torch.no_grad()
def test_an_encoder_is_computed_in_integers() -> None:
    encoder = busy_encoder()
    frames = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = encoder_part(encoder, lambda: frames, torch.ones(1, 16), lambda w: w)
    integers = make_runtime(ROUNDED, part.network, frames[:1])
    assert isinstance(integers, Staged)
    rounded, exact = with_rounded_products(encoder, to_float(frames)), encoder(to_float(frames))
    ours = torch.cat([integers(frame[None]) for frame in frames])
    by_hand = rounded(to_float(frames))
    assert (ours - by_hand).square().mean() < 0.1 * (by_hand - exact).square().mean()
    if NAMES_KERNELS:
        convolutions = [one for one in rounded.modules() if isinstance(one, RoundedConv)]
        dense = [one for one in convolutions if one.groups == 1]  # of depthwise ones the library takes those that pay
        assert len(dense) <= sum(map(integer_convolutions, integers.stages)) <= len(convolutions)


def test_a_rounded_encoder_is_judged_by_its_frames() -> None:
    encoder, frames = _encoder(), torch.zeros(1, 64, 64, 3, dtype=torch.uint8)

    def decode(w_BLD: torch.Tensor) -> torch.Tensor:
        return (100 + w_BLD[:, :1, :3, None]).to(torch.uint8)

    part = encoder_part(encoder, lambda: frames, torch.ones(1, 16), decode)
    w = torch.zeros(1, 1, 16)
    assert part.fault(ROUNDED, [(w + 4, w)]) == ""  # 36.1 dB, by frames 4 levels apart
    assert (
        part.fault(ROUNDED, [(w + 5, w)])
        == f"its frames have a PSNR of 34.2 dB, and {measured.LEAST_PSNR:g} are wanted"
    )
    assert part.fault("openvino", [(w + 4, w)]) == "up to 4.000 standard deviations apart"
