"""The encoder keeps position, starts from the mean w, and says what is wrong."""

import socket

import pytest
import torch

from torch_bridge.encoder import Encoder, EncoderConfig


def _encoder(**changes: object) -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(**{"trunk": "b0", "size": 64, "style_dim": 16, "width": 8, **changes})).eval()


def _dot(x: int, y: int) -> torch.Tensor:
    image = torch.full((1, 3, 64, 64), -1.0)
    image[..., y : y + 6, x : x + 6] = 1.0
    return image


@pytest.mark.parametrize("rows", [1, 5])
def test_shape_and_offset_from_mean_w(rows: int) -> None:
    encoder = _encoder(rows=rows)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    before = encoder(images)
    assert before.shape == (2, rows, 16)
    mean = torch.arange(16.0)
    encoder.set_mean_w(mean)
    assert torch.allclose(encoder(images), before + mean, atol=1e-5)
    assert "mean_w" in encoder.state_dict()


def test_w_depends_on_where_the_dot_is_also_when_the_same_pixels_stand_elsewhere() -> None:
    encoder = _encoder()
    with torch.no_grad():
        here, there = encoder(_dot(12, 30)), encoder(_dot(44, 30))  # apart by a whole stride of the trunk
        blank = encoder(torch.full((1, 3, 64, 64), -1.0))
    assert (here - there).norm() > 0.3 * (here - blank).norm()


def test_grid_holds_places_apart() -> None:
    # The linear head sees one weight a place: with the trunk out of the way, a moved feature moves in the flat vector.
    encoder = _encoder()
    to_grid = encoder.to_grid[0]
    features = torch.zeros(2, to_grid.reduce.in_channels, 8, 8)
    features[0, :, 0, 0] = features[1, :, 1, 1] = 5.0  # same cell of the grid, another pixel of it
    with torch.no_grad():
        a, b = to_grid(features)
    assert a.shape == (8, 4, 4)
    assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("trunk", ["b1", "l1"])
def test_other_trunks_and_sizes(trunk: str) -> None:
    with torch.no_grad():
        assert _encoder(trunk=trunk, size=96, taps=(2, 3))(torch.zeros(1, 3, 96, 96)).shape == (1, 1, 16)


def test_wrong_sizes_are_told() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        _encoder(size=40)
    with pytest.raises(ValueError, match="resize"):
        _encoder()(torch.zeros(1, 3, 32, 32))


def test_pretrained_without_network_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror("offline")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ValueError, match="cannot be downloaded here; connect to a network once"):
        _encoder(pretrained=True)
