"""The parts of a world must agree with each other and with its manifest."""

from genie_jax.dynamics import DynamicsConfig
from torch_bridge.action_reader import ActionReader
from torch_bridge.encoder import EncoderConfig
from torch_bridge.manifest import WorldManifest


def check_agreement(
    config: WorldManifest, encoder: EncoderConfig, size: int, dynamics: DynamicsConfig, actions: ActionReader
) -> None:
    """Compare what the manifest says with what the parts are.

    Args:
        size: of the frames that encoder and decoder take and make.

    Raises:
        ValueError: names the first thing that differs.
    """
    faults = {
        "size": (config.size, size),
        "rows": (config.rows, dynamics.rows),
        "rows of the encoder": (config.rows, encoder.rows),
        "style_dim": (config.style_dim, dynamics.style_dim),
        "style_dim of the encoder": (config.style_dim, encoder.style_dim),
        "window": (config.window, dynamics.window),
        "codes of the dynamics": (len(config.codes), dynamics.codes),
        "codes of the action model": (len(config.codes), actions.model.config.codes),
    }
    if actions.reads_features:
        theirs = actions.model.config.features
        faults["features of the encoder"] = ((theirs.grid, theirs.channels), (encoder.grid, encoder.channels))
    for name, (said, found) in faults.items():
        if said != found:
            raise ValueError(f"The world's manifest and its parts disagree: {name} is {said} there and {found} here.")
