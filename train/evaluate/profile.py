"""How much of the evaluation is computed: three profiles, from a minute to an hour."""

from collections.abc import Callable
from dataclasses import dataclass

Log = Callable[[str], None]


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
    """

    name: str
    clips: int
    action_frames: int
    drift_clips: int
    drift_steps: tuple[int, ...]
    frechet: bool
    play_steps: int
    classifiers: bool


PROFILES = {
    "quick": Profile("quick", 64, 4_000, 16, (16, 64), False, 300, False),
    "normal": Profile("normal", 256, 20_000, 64, (16, 64, 256), True, 300, False),
    "full": Profile("full", 256, 100_000, 256, (16, 64, 256, 1000), True, 300, True),
}
