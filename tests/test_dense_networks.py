"""Generator and student at 128 px against plain re-derivations in float64: a weight a sample, and dense kernels.

Nothing of the networks' own code is used but the names of their tensors. The generator has a weight for each sample
(modulated, demodulated) in a grouped convolution, upsampling by a transposed one and a blur written out tap by tap. The
student has each depthwise-separable pair as one dense kernel a sample, its inverse Haar transform as four signed sums.
"""

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.stylegan2 import Generator, GeneratorConfig

Weights = dict[str, Tensor]
BATCH, DIM = 2, 24


def _randomised(module: nn.Module, seed: int) -> Weights:
    """Random values in all that starts at zero or one, everything in float64; returns the state."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith(("bias", "noise.weight", "input.input", "style_inv")):
                tensor.add_(0.5 * torch.randn(tensor.shape, generator=rng))
    return module.double().state_dict()


def _grouped(x_BCHW: Tensor, weight_BOCKK: Tensor) -> Tensor:
    """Convolution of each sample with its own weight."""
    batch, width = weight_BOCKK.shape[:2]
    padding = weight_BOCKK.shape[-1] // 2
    y = F.conv2d(x_BCHW.flatten(0, 1)[None], weight_BOCKK.flatten(0, 1), padding=padding, groups=batch)
    return y.unflatten(1, (batch, width))[0]


def _taps(x: Tensor, before: int, after: int, gain: float) -> Tensor:
    """Sum over the 4x4 places of the low-pass filter (1, 3, 3, 1) x (1, 3, 3, 1), of sum `gain`, zeros around."""
    x = F.pad(x, (before, after, before, after))
    height, width = x.shape[2] - 3, x.shape[3] - 3
    taps = (1, 3, 3, 1)
    return sum(
        taps[i] * taps[j] / 64 * gain * x[:, :, i : i + height, j : j + width] for i in range(4) for j in range(4)
    )


def _modulated(t: Weights, name: str, x: Tensor, w: Tensor, *, up: bool = False, demodulate: bool = True) -> Tensor:
    weight = t[f"{name}.weight"]  # (1, O, C, K, K)
    _, out, channels, side, _ = weight.shape
    style = w @ t[f"{name}.modulation.weight"].T / math.sqrt(w.shape[1]) + t[f"{name}.modulation.bias"]
    weight = weight * style[:, None, :, None, None] / math.sqrt(channels * side**2)
    if demodulate:
        weight = weight / torch.sqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    if not up:
        return _grouped(x, weight)
    line = x.flatten(0, 1)[None]
    y = F.conv_transpose2d(line, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=len(x))
    return _taps(y.unflatten(1, (len(x), out))[0], 1, 1, gain=4)


def _generator(t: Weights, w_BLD: Tensor, noise: Sequence[Tensor]) -> Tensor:
    def styled(name: str, x: Tensor, row: int, number: int, *, up: bool = False) -> Tensor:
        y = _modulated(t, f"{name}.conv", x, w_BLD[:, row], up=up) + t[f"{name}.noise.weight"] * noise[number]
        y = y + t[f"{name}.activate.bias"].view(1, -1, 1, 1)
        return torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)

    def rgb(name: str, x: Tensor, row: int) -> Tensor:
        return _modulated(t, f"{name}.conv", x, w_BLD[:, row], demodulate=False) + t[f"{name}.bias"]

    x = styled("conv1", t["input.input"].repeat(len(w_BLD), 1, 1, 1), 0, 0)
    image = rgb("to_rgb1", x, 1)
    for i in range((w_BLD.shape[1] - 2) // 2):
        x = styled(f"convs.{2 * i}", x, 2 * i + 1, 2 * i + 1, up=True)
        x = styled(f"convs.{2 * i + 1}", x, 2 * i + 2, 2 * i + 2)
        spread = torch.zeros(len(image), 3, 2 * image.shape[2], 2 * image.shape[3], dtype=image.dtype)
        spread[:, :, ::2, ::2] = image
        image = rgb(f"to_rgbs.{i}", x, 2 * i + 3) + _taps(spread, 2, 1, gain=4)
    return image


def _linear(t: Weights, name: str, w: Tensor) -> Tensor:
    return w @ t[f"{name}.weight"].T + t[f"{name}.bias"]


def _haar_synthesis(bands: Tensor) -> Tensor:
    """Channels LL of all colours, then LH, HL and HH of each -> the image of twice the side."""
    colours = bands.shape[1] // 4
    image = torch.zeros(len(bands), colours, 2 * bands.shape[2], 2 * bands.shape[3], dtype=bands.dtype)
    for c in range(colours):
        ll, lh, hl, hh = (bands[:, i] for i in (c, colours + 3 * c, colours + 3 * c + 1, colours + 3 * c + 2))
        image[:, c, 0::2, 0::2] = (ll + lh + hl + hh) / 2
        image[:, c, 1::2, 0::2] = (ll - lh + hl - hh) / 2
        image[:, c, 0::2, 1::2] = (ll + lh - hl - hh) / 2
        image[:, c, 1::2, 1::2] = (ll - lh - hl + hh) / 2
    return image


def _student(t: Weights, w_BLD: Tensor, noise: Sequence[Tensor], blocks: int) -> tuple[Tensor, list[Tensor]]:
    def kernel(name: str, w: Tensor) -> Tensor:
        """One dense 3x3 kernel a sample; the demodulation is that of `style_inv`, the same for all."""
        if f"{name}.weight" in t:
            plain = t[f"{name}.weight"]
        else:
            plain = t[f"{name}.weight_permute"] * t[f"{name}.weight_dw"].transpose(0, 1)  # (O, C, 3, 3)
        plain = plain / math.sqrt(plain.shape[1] * 9)
        norm = (plain * t[f"{name}.style_inv"][0]).square().sum((1, 2, 3), keepdim=True)
        return plain / torch.sqrt(norm + 1e-8) * _linear(t, f"{name}.modulation", w)[:, None, :, None, None]

    def styled(name: str, x: Tensor, row: int, image: Tensor) -> Tensor:
        y = _grouped(x, kernel(f"{name}.conv", w_BLD[:, row])) + t[f"{name}.noise.weight"] * image + t[f"{name}.bias"]
        return torch.where(y > 0, y, 0.2 * y)

    def head(name: str, x: Tensor, row: int) -> Tensor:
        style = _linear(t, f"{name}.conv.modulation", w_BLD[:, row])[:, None, :, None, None]
        return _grouped(x, t[f"{name}.conv.weight"] * style / math.sqrt(x.shape[1])) + t[f"{name}.bias"]

    x = styled("conv1", t["input.input"].repeat(len(w_BLD), 1, 1, 1), 0, noise[0][0])
    heads = [head("to_img1", x, 1)]
    for i in range(blocks):
        x = _haar_synthesis(x * _linear(t, f"layers.{i}.up.modulation", w_BLD[:, 3 * i + 1])[:, :, None, None])
        x = styled(f"layers.{i}.conv1", x, 3 * i + 1, noise[i + 1][0])
        x = styled(f"layers.{i}.conv2", x, 3 * i + 2, noise[i + 1][1])
        heads.append(head(f"layers.{i}.to_img", x, 3 * i + 3))
    return _haar_synthesis(heads[-1]), heads


def _assert_near(found: Tensor, wanted: Tensor, share: float = 1e-12) -> None:
    """Equal but for `share` of the deviation; rounding is about 2e-14 of it."""
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < share * wanted.std()


@torch.no_grad()
@pytest.mark.parametrize(("multiplier", "cap", "last"), [(1, 136, 128), (2, 136, 136)])
def test_generator_equals_its_grouped_form(multiplier: int, cap: int, last: int) -> None:
    torch.manual_seed(multiplier)
    generator = Generator(GeneratorConfig(128, DIM, 2, multiplier, cap))
    assert generator.config.widths[128] == last
    tensors = _randomised(generator, 1)
    w_BLD = torch.randn(BATCH, generator.rows, DIM, dtype=torch.float64)
    noise = generator.draw_noise(BATCH)
    found = generator.synthesis(w_BLD, noise)
    assert found.shape == (BATCH, 3, 128, 128)
    _assert_near(found, _generator(tensors, w_BLD, noise))


@torch.no_grad()
@pytest.mark.parametrize("channels", [(64, 64, 64, 64, 64), (64, 48, 40, 32, 20)])
def test_student_equals_its_dense_form(channels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    student = Student(StudentConfig(128, DIM, channels))
    tensors = _randomised(student, 2)
    w_BLD = torch.randn(BATCH, student.rows, DIM, dtype=torch.float64)
    noise = [torch.randn(shape, dtype=torch.float64) for shape in student.noise_shapes]
    image, heads = _student(tensors, w_BLD, noise, len(student.layers))
    _assert_near(student(w_BLD, noise), image)
    _assert_near(student.for_play(noise).double()(w_BLD), image, 1e-5)  # it folds into float32
    for found, wanted in zip(student.wavelet_heads(w_BLD, noise), heads, strict=True):
        _assert_near(found, wanted)


@pytest.mark.parametrize(("multiplier", "w64", "w128"), [(1, 256, 128), (2, 512, 256)])
def test_full_width_has_the_shapes_of_128_px(multiplier: int, w64: int, w128: int) -> None:
    with torch.device("meta"):
        generator = Generator(GeneratorConfig(128, channel_multiplier=multiplier))
        student = Student(StudentConfig.from_generator(generator.config))
        w_BLD = torch.randn(BATCH, generator.rows, 512)
        assert generator.synthesis(w_BLD).shape == (BATCH, 3, 128, 128)
        image, heads = student.images(torch.randn(BATCH, student.rows, 512))
    assert list(generator.config.widths.values()) == [512, 512, 512, 512, w64, w128]
    assert tuple(generator.convs[-1].conv.weight.shape) == (1, w128, w128, 3, 3)
    assert image.shape == (BATCH, 3, 128, 128)
    assert [tuple(head.shape) for head in heads] == [(BATCH, 12, side, side) for side in (4, 8, 16, 32, 64)]
