"""Many rollouts side by side, in groups of one size, so that one compiled step serves them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from torch_bridge.exchange import to_torch
from torch_bridge.play_arguments import Codes

if TYPE_CHECKING:
    from torch_bridge.world import World

BATCH = 32  # rollouts side by side


def batch_steps(
    world: World,
    frames_BTHWC: np.ndarray,
    codes_BTm1: Codes | None,
    codes_BS: np.ndarray,
    *,
    reencode_every: int | None = None,
    seed: int = 0,
    **knobs: Any,
) -> Iterator[tuple[slice, int, jax.Array]]:
    """(rows of the result, number of the step, w_BLD) in turn; see `World.rollout_batch`.

    The last group is filled up with its last rollout.
    """
    settings, every = world.knobs(**knobs), world.reencode_every(reencode_every)
    if codes_BTm1 is not None:
        codes_BTm1 = world.check_codes(codes_BTm1, len(frames_BTHWC), np.shape(frames_BTHWC)[1] - 1)
    group = min(BATCH, len(codes_BS))
    for first in range(0, len(codes_BS), BATCH):
        index = np.minimum(first + np.arange(group), len(codes_BS) - 1)
        known = None if codes_BTm1 is None else codes_BTm1[index]
        state = world.start(np.asarray(frames_BTHWC)[index], known, settings, seed=seed, numbers_B=index)
        for number, codes_B in enumerate(codes_BS[index].T):
            state, w_BLD = world.player.step(state, jax.device_put(codes_B, world.jax_device), settings)
            if every and (number + 1) % every == 0:
                state = world.reencoded(state, world.codec.decode(to_torch(w_BLD)))
            yield slice(first, first + group), number, w_BLD
