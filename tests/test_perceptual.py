"""The perceptual distance is a distance, and never pretends to be another one."""

import logging
import urllib.error

import pytest
import torch
from torch import nn

from torch_bridge.perceptual import LpipsUnavailable, feature_distance, lpips_perceptual, make_perceptual


class _Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        first = self.conv(images).relu() + 0.1
        return [first, torch.nn.functional.avg_pool2d(first, 2)]


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("lpips.LPIPS", refuse)


@pytest.mark.usefixtures("_offline")
def test_lpips_offline_is_a_clear_error_when_it_was_asked_for() -> None:
    with pytest.raises(LpipsUnavailable, match=r"connect to a network once, or use the discriminator"):
        lpips_perceptual()
    with pytest.raises(LpipsUnavailable):
        make_perceptual("lpips", _Critic())


@pytest.mark.usefixtures("_offline")
def test_auto_falls_back_under_its_own_name_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        perceptual = make_perceptual("auto", _Critic())
    assert perceptual.name == "discriminator_features"
    assert "discriminator_features" in caplog.text


def test_discriminator_distance_is_zero_on_equal_images_and_grows_with_the_difference() -> None:
    perceptual = make_perceptual("discriminator", _Critic())
    image = torch.rand(2, 3, 8, 8)
    noise = torch.randn(2, 3, 8, 8)
    near, far = perceptual(image + 0.05 * noise, image), perceptual(image + 0.5 * noise, image)
    assert torch.equal(perceptual(image, image), torch.zeros(2))
    assert near.shape == (2,)
    assert (far > near).all()


def test_measure_is_frozen_while_its_source_trains() -> None:
    critic = _Critic()
    perceptual = make_perceptual("discriminator", critic)
    a, b = torch.rand(1, 3, 8, 8, requires_grad=True), torch.rand(1, 3, 8, 8)
    before = perceptual(a, b)
    before.sum().backward()
    assert a.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in perceptual.parameters())
    nn.init.ones_(critic.conv.weight)
    assert torch.equal(perceptual.train()(a, b), before)
    assert not perceptual.net.training


def test_feature_distance_formula() -> None:
    f, t = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    f[0, 0], t[0, 1] = 3.0, 0.5  # orthogonal directions, whatever their lengths
    assert feature_distance([f], [t]).item() == pytest.approx(2.0)
    with pytest.raises(ValueError, match="rank 4"):
        feature_distance([torch.zeros(1, 2)], [torch.zeros(1, 2)])


def test_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="vgg"):
        make_perceptual("vgg", _Critic())
