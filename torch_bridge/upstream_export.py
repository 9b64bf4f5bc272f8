"""Networks as the published code stores them: the way back of `upstream`."""

from typing import Any

from torch import Tensor

from torch_bridge.channels import width_at
from torch_bridge.discriminator import Discriminator
from torch_bridge.stylegan2 import Generator, GeneratorConfig

_MULTIPLIERS = range(1, 9)  # whole numbers; the published models have 1 and 2
_UNCAPPED = 1 << 30


def rosinality_checkpoint(generator: Generator, discriminator: Discriminator | None) -> dict[str, Any]:
    """A checkpoint of rosinality's StyleGAN2: "g_ema", "d" where there is one, "latent_avg" (style_dim,).

    Tensors and dictionaries only, so `torch.load(weights_only=True)` reads it.
    """
    checkpoint = {"g_ema": _state(generator), "latent_avg": generator.mean_w().clone()}
    return checkpoint if discriminator is None else {**checkpoint, "d": _state(discriminator)}


def rosinality_multiplier(config: GeneratorConfig) -> int | None:
    """The `channel_multiplier` with which rosinality's class has these widths; None where none does.

    There the widths from 4 to 32 px are 512 whatever the multiplier, and nothing caps the others.
    """
    widths = config.widths
    fits = (m for m in _MULTIPLIERS if all(width_at(r, m, _UNCAPPED) == width for r, width in widths.items()))
    return next(fits, None)


def _state(module: Generator | Discriminator) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
