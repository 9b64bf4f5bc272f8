"""Where the action model stands among the stages: after what it reads, and before what predicts its codes.

On frames it needs nothing but these and may come before the encoder, which can then be asked to keep in w what the
codes tell (`train.code_prediction`). On w or on the encoder's feature maps it comes after the latents.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from train.config import Config
from train.errors import UserError

READERS = ("encoder", "drift")


def code_readers(config: Config) -> list[str]:
    """The stages that predict codes, in their order.

    Raises:
        UserError: the action model reads what these stages make.
    """
    reading = [stage for stage in READERS if getattr(config, stage).codes > 0]
    model = config.actions.model
    if reading and (model.form == "mlp" or model.reads_features):
        what, remedy = ("features", "inputs frames") if model.reads_features else ("w", "form warp")
        fault = f"the action model reads {what}, so it cannot be there before the encoder that predicts its codes"
        raise UserError(f"--{reading[0]}.codes", fault, f"give --actions.model.{remedy}, or --{reading[0]}.codes 0")
    return reading


def check_action_model(config: Config) -> None:
    """Raise UserError where the action model cannot read what it is to, or cannot stand where it is needed."""
    model = config.actions.model
    if model.form == "mlp" and model.inputs != "frames":
        remedy = "leave it out, or give --actions.model.form warp"
        raise UserError(f"--actions.model.inputs {model.inputs}", "the form mlp reads w and nothing else", remedy)
    code_readers(config)


def needs_of_codes(config: Config, needs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What every step reads: the action model latents where it does, and stages that predict codes its results."""
    reading, model = code_readers(config), config.actions.model
    found = {name: (*read, "actions") if name in reading else read for name, read in needs.items()}
    if model.form == "mlp" or model.reads_features:
        found["actions"] = ("prepare", "latents")
    return found


def settings_of_actions(config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the action stage is fingerprinted by: as given, with what decides the latents that it reads."""
    model = dict(settings["model"])
    if not config.actions.model.reads_features:
        del model["inputs"], model["features"]  # runs from before there were these options stay finished
    found = {**settings, "model": model}
    if config.actions.model.form == "mlp":
        found["std_floor"] = config.dynamics.std_floor  # decides how the w it reads is normalised
    return found


def in_order(names: Iterable[str], config: Config) -> list[str]:
    """The steps with the action model before the first stage that predicts its codes."""
    order, reading = list(names), code_readers(config)
    if reading:
        order.remove("actions")
        order.insert(order.index(reading[0]), "actions")
    return order
