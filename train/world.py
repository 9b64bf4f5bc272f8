"""How a world is packed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WorldConfig:
    """How a world is packed.

    Attributes:
        clamp: standard deviations of the corpus beyond which play cuts off a generated w; none for never.
        noise_level: context-noise level at which play runs the dynamics.
        prompts: clips of the corpus that the world brings to start from.
    """

    clamp: float | None = 5.0
    noise_level: float | None = None
    prompts: int = 8
