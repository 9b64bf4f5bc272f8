"""How a world is packed."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WorldConfig:
    """How a world is packed.

    Attributes:
        clamp: standard deviations of the corpus beyond which play cuts off a generated w; none for never.
        temperature: of a flow head's draws in play: 1 as learned, 0 without chance; none for 1.
        reencode_every: steps after which play encodes its own frame and goes on from that w; none for never. It keeps
            long rollouts in the data (docs/experiments.md) for an eighth of an encoding a frame.
        noise_level: context-noise level at which play runs the dynamics.
        prompts: clips of the corpus that the world brings to start from.
    """

    clamp: float | None = 5.0
    temperature: float | None = None
    reencode_every: int | None = 8
    noise_level: float | None = None
    prompts: int = 8

    def __post_init__(self) -> None:
        if self.reencode_every is not None and self.reencode_every < 1:
            raise ValueError(f"reencode_every {self.reencode_every} is no number of steps: give 1 or more, or none")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature} must be 0 or a positive number")
