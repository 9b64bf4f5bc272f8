"""Worlds whose every score is known in advance: a texture that each code shifts by some pixels, round the edges."""

import itertools
from dataclasses import dataclass, field

import numpy as np

SHIFTS = ((0, 0), (0, 3), (3, 0), (0, -3))  # down, right in pixels, by code
SIDE = 32


def texture(seed: int = 0) -> np.ndarray:
    """A (32, 32, 3) uint8 picture without a period, so that every shift of it is another picture."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def shifted(frame: np.ndarray, code: int) -> np.ndarray:
    return np.roll(frame, SHIFTS[code], (0, 1))


def film(codes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Frames (len(codes) + 1, 32, 32, 3): `codes[t]` leads from frame t to frame t+1."""
    frames = [texture(seed)]
    for code in codes:
        frames.append(shifted(frames[-1], int(code)))
    return np.stack(frames)


@dataclass
class MemoryStore:
    """Frames in memory with the face of a frame store."""

    frames: np.ndarray
    shots: list[tuple[int, int]]
    fps: float = 10.0
    source_index: np.ndarray = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.source_index is None:
            self.source_index = np.arange(len(self.frames))

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices: list[int]) -> np.ndarray:
        return self.frames[np.asarray(indices)]


def make_store(lengths: tuple[int, ...], seed: int = 0) -> tuple[MemoryStore, np.ndarray]:
    """A store with one shot for each length, and the code at every frame (a shot's last leads nowhere)."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(len(SHIFTS), size=length) for length in lengths]
    frames = np.concatenate([film(c[:-1], seed=i) for i, c in enumerate(codes)])
    return MemoryStore(frames, spans_of(lengths)), np.concatenate(codes)


def spans_of(lengths: tuple[int, ...]) -> list[tuple[int, int]]:
    """[start, stop) of shots of these lengths, one after the other."""
    return list(itertools.pairwise([0, *itertools.accumulate(lengths)]))


class ShiftWorld:
    """Plays the film above. `kind`: "perfect", "copy" (holds the last frame) or "deaf" (does not look at the code)."""

    def __init__(self, kind: str = "perfect", *, decode_offset: int = 0) -> None:
        self.kind, self.decode_offset = kind, decode_offset
        self.codes = ["a", "b", "c", "d"]
        self._frame = texture()

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), 1, -1).astype(np.float32) / 255

    def decode(self, w: np.ndarray) -> np.ndarray:
        frames = np.round(w * 255).reshape(-1, SIDE, SIDE, 3)
        return np.clip(frames + self.decode_offset, 0, 255).astype(np.uint8)

    def infer_actions(self, frames: np.ndarray) -> np.ndarray:
        pairs = itertools.pairwise(frames)
        return np.array([self._code(a, b) for a, b in pairs], np.int64)

    def _code(self, a: np.ndarray, b: np.ndarray) -> int:
        return int(np.argmin([np.abs(shifted(a, k).astype(int) - b).mean() for k in range(len(SHIFTS))]))

    def rollout_batch(
        self, frames: np.ndarray, prompt_codes: np.ndarray | None, codes: np.ndarray, *, steps: list[int] | None = None
    ) -> np.ndarray:
        assert prompt_codes is None or prompt_codes.shape == (frames.shape[0], frames.shape[1] - 1)
        films = np.stack([self._film(f[-1], c) for f, c in zip(frames, codes, strict=True)])
        return films if steps is None else films[:, np.array(steps) - 1]

    def _film(self, frame: np.ndarray, codes: np.ndarray) -> np.ndarray:
        frames = []
        for code in codes:
            frame = self._next(frame, int(code))
            frames.append(frame)
        return np.stack(frames)

    def _next(self, frame: np.ndarray, code: int) -> np.ndarray:
        return {"perfect": shifted(frame, code), "copy": frame, "deaf": shifted(frame, 1)}[self.kind]

    def reset(self, frames: np.ndarray, codes: np.ndarray | None = None) -> None:
        del codes
        self._frame = frames[-1]

    def step(self, code: int) -> np.ndarray:
        self._frame = self._next(self._frame, code)
        return self._frame

    def parameters(self) -> dict[str, int]:
        return {"encoder": 3, "decoder": 4}
