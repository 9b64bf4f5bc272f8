"""Where the action model stands among the stages: before the encoder, once a stage predicts its codes from w."""

from collections.abc import Iterable, Mapping

from train.config import Config
from train.errors import UserError

READERS = ("encoder", "drift")


def code_readers(config: Config) -> list[str]:
    """The stages that predict codes, in their order.

    Raises:
        UserError: the action model reads what these stages make.
    """
    reading = [stage for stage in READERS if getattr(config, stage).codes > 0]
    if reading and config.actions.model.form == "mlp":
        fault = "an action model of form mlp reads w, so it cannot be there before the encoder that predicts its codes"
        raise UserError(f"--{reading[0]}.codes", fault, f"give --actions.model.form warp, or --{reading[0]}.codes 0")
    return reading


def needs_of_codes(config: Config, needs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What every step reads: as given, and the action model's results for the stages that predict codes."""
    reading = code_readers(config)
    return {name: (*read, "actions") if name in reading else read for name, read in needs.items()}


def in_order(names: Iterable[str], config: Config) -> list[str]:
    """The steps with the action model before the first stage that predicts its codes."""
    order, reading = list(names), code_readers(config)
    if reading:
        order.remove("actions")
        order.insert(order.index(reading[0]), "actions")
    return order
