"""How much of the evaluation is computed: three profiles, from a minute to an hour."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from train.errors import UserError
from train.evaluate.clips import STEPS

Log = Callable[[str], None]
DRIFT_STEPS = (16, 64, 256, 1000)
LEAST_FRECHET = 64  # frames of a Frechet distance: fewer say little about a spread


@dataclass(frozen=True)
class Profile:
    """Sizes of one evaluation.

    Args:
        name: "quick", "normal" or "full", written into the results.
        clips: clips of the rollout measures, where the video allows.
        action_frames: transitions whose codes are compared with true actions.
        drift_clips: rollouts of the drift measures.
        drift_steps: steps at which drift is measured; a rollout is as long as the last.
        frechet: whether w of the rollouts is compared with w of real frames.
        play_steps: timed steps of play, after the warm-up.
        classifiers: whether the supervised ceiling of the actions is trained.
        steps: length of the rollouts that are held against the truth, where the shots allow.
    """

    name: str
    clips: int
    action_frames: int
    drift_clips: int
    drift_steps: tuple[int, ...]
    frechet: bool
    play_steps: int
    classifiers: bool
    steps: int = STEPS

    def up_to(self, step: int) -> Self:
        """This profile with drift measured up to `step`, Frechet distances included.

        Raises:
            UserError: there is no such step.
        """
        if step < 1:
            raise UserError("--far", f"{step} is no step", "give at least 1")
        steps = sorted({*(known for known in DRIFT_STEPS if known < step), step})
        return replace(self, drift_steps=tuple(steps), drift_clips=max(self.drift_clips, LEAST_FRECHET), frechet=True)


PROFILES = {
    "quick": Profile("quick", 64, 4_000, 16, (16, 64), False, 300, False),
    "normal": Profile("normal", 256, 20_000, 64, (16, 64, 256), True, 300, False),
    "full": Profile("full", 256, 100_000, 256, DRIFT_STEPS, True, 300, True),
}
