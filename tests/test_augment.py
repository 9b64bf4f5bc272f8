"""Properties of the adaptive augmentation: exact identities, known moves, gradients, adaptation."""

import pytest
import torch

from torch_bridge.augment import (
    GROUPS,
    AdaptiveAugment,
    AugmentConfig,
    augment,
    colour_matrices,
    geometric_matrices,
    warp,
)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(batch: int = 3, size: int = 8, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand((batch, 3, size, size), generator=_rng(7), dtype=dtype) * 2 - 1


def test_p_zero_is_exactly_the_input_and_its_matrices_are_identities() -> None:
    images = _images()
    assert torch.equal(augment(images, GROUPS, 0.0, _rng()), images)
    assert torch.equal(geometric_matrices(GROUPS, 4, (8, 8), 0.0, _rng()), torch.eye(3).repeat(4, 1, 1))
    assert torch.allclose(colour_matrices(GROUPS, 4, 0.0, _rng()), torch.eye(3, 4).repeat(4, 1, 1), atol=1e-6)
    assert torch.allclose(warp(images, torch.eye(3).repeat(3, 1, 1)), images, atol=1e-6)


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_changes_pictures_and_keeps_them_finite(group: str) -> None:
    images = _images(16)
    out = augment(images, (group,), 1.0, _rng(3))
    assert out.shape == images.shape
    assert out.isfinite().all()
    assert (out - images).abs().amax() > 0.05


def test_warp_reads_the_place_that_the_matrix_names() -> None:
    images = _images(1, 6)
    shift = torch.eye(3)[None].clone()
    shift[0, 0, 2] = 1.0  # output x reads input x + 1; the last column mirrors at its centre
    assert torch.allclose(warp(images, shift)[..., :-1], images[..., 1:], atol=1e-6)
    assert torch.allclose(warp(images, shift)[..., -1], images[..., -2], atol=1e-6)
    shift[0, 0, 2] = 0.5
    assert torch.allclose(warp(images, shift)[..., :-1], (images[..., 1:] + images[..., :-1]) / 2, atol=1e-6)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))[None]
    assert torch.allclose(warp(images, flip), images.flip(-1), atol=1e-6)


def test_quarter_turns_are_those_of_rot90() -> None:
    images = _images(32)
    turned = augment(images, ("rotate90",), 1.0, _rng(1))
    turns = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(4)])
    nearest = (turns - turned).abs().amax(dim=(2, 3, 4))
    assert nearest.amin(0).amax() < 1e-4
    assert nearest.argmin(0).unique().numel() == 4


def test_colour_keeps_the_grey_axis_under_hue_and_saturation() -> None:
    grey = torch.linspace(-1, 1, 5).view(1, 1, 1, 5).expand(8, 3, 4, 5)
    assert torch.allclose(augment(grey, ("hue", "saturation"), 1.0, _rng()), grey, atol=1e-5)
    assert torch.allclose(augment(grey, ("luma_flip",), 1.0, _rng()).abs(), grey.abs(), atol=1e-5)


def test_gradient_and_gradient_of_gradient_match_finite_differences() -> None:
    images = _images(2, 4, torch.float64).requires_grad_()
    groups = ("scale", "rotate", "brightness", "hue")

    def nonlinear(x: torch.Tensor) -> torch.Tensor:
        return augment(x, groups, 1.0, _rng(5)).tanh()

    assert torch.autograd.gradcheck(nonlinear, images)
    assert torch.autograd.gradgradcheck(nonlinear, images)


def test_same_generator_same_pictures() -> None:
    images = _images()
    assert torch.equal(augment(images, GROUPS, 0.7, _rng(2)), augment(images, GROUPS, 0.7, _rng(2)))
    assert not torch.equal(augment(images, GROUPS, 0.7, _rng(2)), augment(images, GROUPS, 0.7, _rng(3)))


def test_p_rises_when_d_overfits_falls_when_it_does_not_and_stays_in_bounds() -> None:
    adaptive = AdaptiveAugment(AugmentConfig(ramp_images=100, every=2, p_max=0.5))
    adaptive.update(torch.ones(10, 1))
    assert adaptive.p == 0.0
    adaptive.update(torch.ones(10, 1))
    assert adaptive.p == pytest.approx(0.2)
    for _ in range(8):
        adaptive.update(torch.ones(10, 1))
    assert adaptive.p == 0.5
    for _ in range(2):
        adaptive.update(torch.tensor([[1.0]] * 5 + [[-1.0]] * 5))  # r = 0, below the target
    assert adaptive.p == pytest.approx(0.3)


def test_adaptive_state_round_trip_in_the_middle_of_an_interval() -> None:
    config = AugmentConfig(ramp_images=100, every=2, p=0.1)
    first, second = AdaptiveAugment(config), AdaptiveAugment(config)
    first.update(torch.ones(4, 1))
    second.load_state(first.state())
    for each in (first, second):
        each.update(torch.ones(4, 1))
    assert first.p == second.p == pytest.approx(0.18)


def test_unknown_group_is_named() -> None:
    with pytest.raises(ValueError, match="flop"):
        augment(_images(), ("flop",), 0.5, _rng())


def test_half_precision_around_it_changes_nothing() -> None:
    images = _images(batch=2, size=512)  # places above 256 are no bfloat16 numbers
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = augment(images, ("translate", "hue"), 1.0, _rng())
    assert torch.equal(under_autocast, augment(images, ("translate", "hue"), 1.0, _rng()))
