"""A player in a world: where they are, and the steps from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from torch_bridge.latent_player import LatentPlayer, LatentState
from torch_bridge.play_arguments import Codes, Frames, check_code

if TYPE_CHECKING:
    from torch_bridge.world import World


class Snapshot(NamedTuple):
    """Where a player was.

    Attributes:
        state: of the dynamics.
        begun: the first half of encoding the newest frame, where that was due.
        steps: how many after the reset.
    """

    state: LatentState
    begun: torch.Tensor | None
    steps: int


class Session:
    """One player's state in a world; sessions share the world's weights and compiled functions, and nothing else."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._knobs, self._reencode_every = world.knobs(), world.reencode_every()
        self._state: LatentState | None = None
        self._begun: torch.Tensor | None = None  # the first half of encoding the newest frame; see `_settled`
        self._steps = 0

    def reset(
        self,
        frames: Frames,
        codes_Tm1: Codes | None = None,
        *,
        noise_level: float | None = None,
        clamp: float | None = None,
        temperature: float | None = None,
        reencode_every: int | None = None,
        seed: int = 0,
    ) -> None:
        """Start from a clip, or from a single frame.

        Args:
            frames: T >= 1 uint8 RGB frames of any size, of which the last `window` count.
            codes_Tm1: the codes between them; None to infer them.
            noise_level, clamp, temperature: see `World.knobs`; what is left out is as the manifest says.
            reencode_every: see `World.reencode_every`; likewise.
            seed: of what dynamics with a flow head draw, in [0, 2^31): prompt, settings, seed and codes say what
                happens. Other dynamics draw nothing.

        Raises:
            ValueError: wrong shapes or types, codes or settings out of range.
        """
        if np.ndim(frames) != 4:
            raise ValueError(f"Frames must be uint8 RGB of shape (T, height, width, 3), not {np.shape(frames)}.")
        self.set_knobs(noise_level=noise_level, clamp=clamp, temperature=temperature, reencode_every=reencode_every)
        codes = None if codes_Tm1 is None else np.asarray(codes_Tm1)[None]
        self._state, self._steps = self._world.start(np.asarray(frames)[None], codes, self._knobs, seed=seed), 0
        self._begun = None

    def set_knobs(self, *, reencode_every: int | None = None, **knobs: float | None) -> None:
        """Change the settings of the steps to come: see `World.knobs` and `World.reencode_every`."""
        self._knobs = self._world.knobs(**knobs)
        self._reencode_every = self._world.reencode_every(reencode_every)

    def step(self, code: int) -> UInt8[np.ndarray, "H W C"]:
        """Take a code, get the next frame.

        Raises:
            ValueError: there was no `reset` before, or the world has no such code.
        """
        self._started()
        return _fetched(self._advance(check_code(code, len(self._world.codes))))

    def _advance(self, code: int) -> torch.Tensor:
        """One step: the frame (1, H, W, C), which an accelerator may still be computing."""
        state = self._settled()
        self._steps += 1
        self._state, frame_BHWC = self._world.advance(state, code, self._knobs)
        if self._reencode_every > 0 and self._steps % self._reencode_every == 0:
            self._begun = self._world.begin_encoding(frame_BHWC)
        return frame_BHWC

    def rollout(self, codes: Codes) -> Frames:
        """The frames of S steps, (0, H, W, C) for none.

        A frame is fetched after the step behind it was queued, so that an accelerator draws the one while it computes
        the other.

        Raises:
            ValueError: as `step`, before any step is taken.
        """
        self._started()
        numbers = [check_code(code, len(self._world.codes)) for code in codes]
        size = self._world.size
        frames_SHWC = np.zeros((len(numbers), size, size, 3), np.uint8)
        drawn: torch.Tensor | None = None
        for number, code in enumerate(numbers):
            before, drawn = drawn, self._advance(code)
            if before is not None:
                frames_SHWC[number - 1] = _fetched(before)
        if drawn is not None:
            frames_SHWC[-1] = _fetched(drawn)
        return frames_SHWC

    def snap(self) -> None:
        """Go on from the w that the encoder finds in the newest frame: see `World.reencode_every`.

        Raises:
            ValueError: there was no `reset` before.
        """
        self._state = self._world.snapped(self._settled())

    def snapshot(self) -> Snapshot:
        """Where the player is now, to come back to with `restore` as often as wanted."""
        return Snapshot(LatentPlayer.copy(self._started()), self._begun, self._steps)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this session or of another one in the same world."""
        self._state = LatentPlayer.copy(snapshot.state)
        self._begun, self._steps = snapshot.begun, snapshot.steps

    def _settled(self) -> LatentState:
        """The state to go on from.

        A frame is encoded anew in two halves, one at the end of its step and one here, before the next: two steps a
        little longer in place of one that is much longer, and the same w.
        """
        state = self._started()
        if self._begun is not None:
            self._state, self._begun = self._world.finish_encoding(state, self._begun), None
            return self._state
        return state

    def _started(self) -> LatentState:
        if self._state is None:
            raise ValueError("This world stands nowhere yet. Call reset(frames) with a prompt before the first step.")
        return self._state


def _fetched(frame_BHWC: torch.Tensor) -> UInt8[np.ndarray, "H W C"]:
    return frame_BHWC[0].cpu().numpy()
