"""A perceptual distance between images, always under its own name.

LPIPS (arXiv 1801.03924) where the weights of its backbone can be had; offline the features of a world's own
discriminator, compared in the same way (unit-normalised over channels, squared difference). The two numbers are not
comparable, so the name goes with the value into every log.
"""

import copy
import logging
import socket
import warnings
from typing import Literal, Protocol

import lpips
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_log = logging.getLogger(__name__)
_DOWNLOAD_TIMEOUT_SECONDS = 20.0

PerceptualKind = Literal["auto", "lpips", "discriminator"]


class FeatureNet(Protocol):
    """A network with inner feature maps; `torch_bridge.discriminator.Discriminator` is one."""

    def features(self, images: Tensor) -> list[Tensor]: ...


class LpipsUnavailable(ValueError):
    """The backbone weights of LPIPS are neither on this machine nor to be downloaded."""


class Perceptual(nn.Module):
    """Distance between two batches of images, one number a pair.

    Attributes:
        name: "lpips_alex" or "discriminator_features", the key under which the value is logged.
    """

    def __init__(self, name: str, net: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.net = net.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Perceptual":  # noqa: ARG002 - a fixed measure has one mode
        return super().train(False)

    def forward(self, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
        """Distance of every pair, at least 0. Images in [-1, 1]; `b` is the target and gets no gradient."""
        if self.name == "lpips_alex":
            return self.net(a, b.detach()).flatten()
        with torch.no_grad():
            targets = self.net.features(b)
        return feature_distance(self.net.features(a), targets)


def feature_distance(features: list[Tensor], targets: list[Tensor]) -> Float[Tensor, " B"]:
    """Mean over levels of the mean over places of |f/|f| - t/|t||^2, the norm taken over channels (LPIPS, eq. 1)."""
    maps = [(f, t) for f, t in zip(features, targets, strict=True) if f.dim() == 4]
    if not maps:
        raise ValueError("a perceptual distance needs at least one feature map of rank 4; got none")
    levels = [(F.normalize(f, dim=1) - F.normalize(t, dim=1)).square().sum(1).mean((1, 2)) for f, t in maps]
    return torch.stack(levels).mean(0)


def lpips_perceptual() -> Perceptual:
    """LPIPS with AlexNet. Raises `LpipsUnavailable` where the weights cannot be had."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_SECONDS)  # torch.hub has no timeout and would hang behind a firewall
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # lpips uses torchvision's old argument names
            net = lpips.LPIPS(net="alex", verbose=False)
    except OSError as error:  # URLError and timeouts are OSErrors
        raise LpipsUnavailable(
            f"LPIPS needs the AlexNet weights of torchvision and they cannot be downloaded here ({error}); "
            "connect to a network once, or use the discriminator's features (perceptual = discriminator)"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return Perceptual("lpips_alex", net)


def make_perceptual(kind: PerceptualKind, discriminator: nn.Module) -> Perceptual:
    """The distance that `kind` asks for.

    Args:
        kind: "lpips" or "discriminator"; "auto" takes LPIPS where it can be had and says in the log when it cannot.
        discriminator: a `FeatureNet`; a frozen copy of it is kept, so that the measure stands still while D trains.
    """
    if kind not in ("auto", "lpips", "discriminator"):
        raise ValueError(f"perceptual kind {kind!r} is unknown; use auto, lpips or discriminator")
    if kind != "discriminator":
        try:
            return lpips_perceptual()
        except LpipsUnavailable as error:
            if kind == "lpips":
                raise
            _log.warning("%s. Using discriminator_features, which is no LPIPS value.", error)
    return Perceptual("discriminator_features", copy.deepcopy(discriminator))
