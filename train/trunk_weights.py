"""Published weights for the encoder's trunk, from a file that a person names: `--encoder.trunk_weights FILE`."""

import hashlib
from pathlib import Path

import torch

from torch_bridge.efficientvit_weights import load_efficientvit
from torch_bridge.encoder import Encoder, EncoderConfig
from train.errors import UserError


def load_trunk(encoder: Encoder, path: str) -> None:
    """Fill the encoder's trunk.

    Raises:
        UserError: the file is missing, damaged or of another trunk.
    """
    trunk = encoder.config.trunk
    try:
        load_efficientvit(path, encoder)
    except OSError as error:
        remedy = f"give --encoder.trunk_weights the EfficientViT weights of {trunk}, or none"
        raise UserError(path, f"cannot be read ({error.strerror or error})", remedy) from error
    except ValueError as error:
        remedy = f"the trunk is {trunk}: give its EfficientViT weights, or choose another --encoder.model.trunk"
        raise UserError(path, f"does not fit ({str(error).rstrip('.')})", remedy) from error


def trunk_digest(config: EncoderConfig, path: str) -> str:
    """Hash of a file that fits the trunk: asked before hours are spent on the stages that come first.

    Raises:
        UserError: as `load_trunk`.
    """
    with torch.device("meta"):
        encoder = Encoder(config)
    load_trunk(encoder, path)
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:20]
