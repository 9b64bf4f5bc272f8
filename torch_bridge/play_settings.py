"""Settings of play: what is given, or else what the manifest says, checked in plain words."""

import math
import operator
from typing import Any

import numpy as np

from genie_jax.dynamics import DynamicsConfig
from torch_bridge.latent_player import Knobs
from torch_bridge.manifest import WorldManifest

SEEDS = 2**31


def check_knobs(
    manifest: WorldManifest,
    dynamics: DynamicsConfig,
    *,
    noise_level: float | None = None,
    clamp: float | None = None,
    temperature: float | None = None,
) -> Knobs:
    """The knobs of a step as NumPy scalars; see `World.knobs`.

    Raises:
        ValueError: out of range, or a setting that these dynamics have no use for.
    """
    level = noise_level if noise_level is not None else manifest.noise_level or 0.0
    limit = clamp if clamp is not None else manifest.clamp or math.inf
    most = dynamics.context_noise
    if not 0 <= level <= most:
        raise ValueError(f"noise_level must lie in [0, {most}], the range of this world's training, not at {level}.")
    if not limit > 0:
        raise ValueError(f"clamp must be positive, a number of standard deviations, not {limit}.")
    if dynamics.head == "regression" and temperature is not None:
        raise ValueError("temperature is for dynamics with a flow head, and this world's predict one next frame.")
    heat = next((value for value in (temperature, manifest.temperature) if value is not None), 1.0)
    if not 0 <= heat < math.inf:
        raise ValueError(f"temperature must be 0, for always the same, or a positive number, not {heat}.")
    return Knobs(np.float32(level), np.float32(limit), np.float32(heat))


def check_steps(manifest: WorldManifest, reencode_every: int | None) -> int:
    """Steps between two encodings; see `World.reencode_every`. Raises ValueError for a negative number."""
    steps = (manifest.reencode_every or 0) if reencode_every is None else operator.index(reencode_every)
    if steps < 0:
        raise ValueError(f"reencode_every must be 0, for never, or a number of steps, not {steps}.")
    return steps


def seeds_of(seed: Any, rollouts: np.ndarray) -> np.ndarray:
    """Seeds of rollouts by their numbers, uint32: `seed` plus the number, so that each draws for itself.

    Raises:
        ValueError: no whole number in [0, 2^31).
    """
    try:
        first = operator.index(seed)
    except TypeError as error:
        raise ValueError(f"A seed is a whole number, not {seed!r}.") from error
    if not 0 <= first < SEEDS:
        raise ValueError(f"A seed lies in [0, {SEEDS}), not at {first}.")
    return (first + rollouts).astype(np.uint32)
