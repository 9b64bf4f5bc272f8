"""What was found out about a world's codes, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CodeFindings:
    """One code.

    Attributes:
        number, name, key: as the world's manifest has them.
        usage: share of the training video's transitions that carry the code.
        flow: mean optical flow while the code is held, pixels a step to the right and down.
        movement: the same in words, "left 3.1 px".
        consistency: mean cosine of its flow from different prompts; None with a single prompt.
        effect: mean square by which its pictures differ from those of the other codes, over the mean square of the
            change from the prompt: 0 for a code that does what all others do, about 1 and more for a strong one.
        nearest: the other code with the most similar pictures, None in a world of one code.
        nearest_distance: how far it is, in the measure of `effect`.
        transitions: of the given video, how many carry the code; None without true actions.
        true_actions: share of each true action among them, the most frequent first; None without true actions.
    """

    number: int
    name: str
    key: str
    usage: float
    flow: tuple[float, float]
    movement: str
    consistency: float | None
    effect: float
    nearest: int | None
    nearest_distance: float | None
    transitions: int | None = None
    true_actions: dict[int, float] | None = None


@dataclass(frozen=True)
class Inspection:
    """All codes of a world.

    Attributes:
        world: its name.
        size: side of a frame in pixels.
        prompts, steps: each code was held for `steps` steps from each of the prompts.
        source: where the prompts come from, in words.
        codes: by number.
        consistency: mean over the codes; `chance` is the same of different codes. None with a single prompt or code.
        nmi: normalised mutual information of codes and true actions, None without true actions.
        alarms: in plain words, each with what to do.
    """

    world: str
    size: int
    prompts: int
    steps: int
    source: str
    codes: tuple[CodeFindings, ...]
    consistency: float | None
    chance: float | None
    nmi: float | None
    alarms: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values; the true actions' numbers become strings."""
        tree = asdict(self)
        for code in tree["codes"]:
            if (shares := code["true_actions"]) is not None:
                code["true_actions"] = {str(action): share for action, share in shares.items()}
        return {"schema": 1, **tree}
