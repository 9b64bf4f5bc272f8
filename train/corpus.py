"""The frames as training data: held-out shots, batches and clips as pure functions of (seed, stream, step)."""

import hashlib
import threading
from functools import cached_property

import grain
import numpy as np
from jaxtyping import Float32, Int64, UInt8

from train.errors import UserError
from train.ingest.store import FrameStore
from train.read_ahead import ReadAhead

READ_CHUNK = 1024  # frames decoded at a time while streaming over all of them
OVERSHOOT = 2  # a last shot that would hold out more than this many times the wanted frames is split instead


class Corpus:
    """A `FrameStore` divided into training and held-out frames.

    Every draw is a function of (seed, stream, step) alone, so that a resumed run sees what an uninterrupted one sees.
    Within a stream each epoch is shuffled without replacement.
    """

    def __init__(self, store: FrameStore, *, seed: int, holdout: float = 0.05, memory_limit_mb: int = 1024) -> None:
        """
        Args:
            store: the frames.
            seed: of every draw.
            holdout: share of the frames that no stage may see, in [0, 0.5].
            memory_limit_mb: decoded frames are kept in memory where they fit into this.

        Raises:
            UserError: too few frames to train on.
            ValueError: `holdout` outside [0, 0.5].
        """
        if not 0 <= holdout <= 0.5:
            raise ValueError(f"holdout must lie in [0, 0.5], got {holdout}")
        if len(store) < 4:
            raise UserError(store.path, f"only {len(store)} frames", "Prepare a longer video.")
        self.store, self.seed = store, seed
        self.train_shots, self.heldout_shots = split_shots(store.shots, holdout)
        bytes_needed = len(store) * store.size**2 * 3
        self.in_memory = bytes_needed <= memory_limit_mb * 2**20
        self._lock = threading.Lock()
        self._memory: np.ndarray | None = None
        self._starts: dict[int, np.ndarray] = {}
        self._ahead = ReadAhead(self._read_batch)

    @cached_property
    def train_indices(self) -> Int64[np.ndarray, "N"]:
        """Numbers of the training frames."""
        return frames_of(self.train_shots)

    @cached_property
    def heldout_indices(self) -> Int64[np.ndarray, "N"]:
        """Numbers of the held-out frames."""
        return frames_of(self.heldout_shots)

    def read(self, indices: np.ndarray) -> UInt8[np.ndarray, "*shape H W C"]:
        """Frames by number, for an array of numbers of any shape."""
        numbers = np.asarray(indices, np.int64)
        if not self.in_memory:
            frames = self.store.read(numbers.reshape(-1))
            return frames.reshape(*numbers.shape, *frames.shape[1:])
        with self._lock:
            if self._memory is None:
                self._memory = self._decode_all()
        return self._memory[numbers]

    def _decode_all(self) -> np.ndarray:
        frames = np.empty((len(self.store), self.store.size, self.store.size, 3), np.uint8)
        for start in range(0, len(frames), READ_CHUNK):
            stop = min(start + READ_CHUNK, len(frames))
            frames[start:stop] = self.store.read(np.arange(start, stop))
        return frames

    def batch_indices(self, step: int, size: int, *, stream: str) -> Int64[np.ndarray, "size"]:
        """Numbers of the training frames of batch `step`."""
        return self.train_indices[self._draw(len(self.train_indices), step, size, stream)]

    def batch(self, step: int, size: int, *, stream: str) -> UInt8[np.ndarray, "size H W C"]:
        """Training frames of batch `step`; a different `stream` draws independently.

        Where frames are read from the disk, those of the next steps are read meanwhile.
        """
        return self._read_batch(step, size, stream) if self.in_memory else self._ahead.take(step, size, stream)

    def _read_batch(self, step: int, size: int, stream: str) -> UInt8[np.ndarray, "size H W C"]:
        return self.read(self.batch_indices(step, size, stream=stream))

    def clip_starts(self, length: int) -> Int64[np.ndarray, "N"]:
        """Every frame with which `length` consecutive frames of one training shot begin."""
        if length not in self._starts:
            self._starts[length] = clip_starts(self.train_shots, length)
        return self._starts[length]

    def clip_indices(self, step: int, size: int, length: int, *, stream: str) -> Int64[np.ndarray, "size length"]:
        """Frame numbers of batch `step` of clips; no clip straddles a cut or touches a held-out frame.

        Raises:
            UserError: no training shot is that long.
        """
        starts = self.clip_starts(length)
        if not len(starts):
            longest = int((self.train_shots[:, 1] - self.train_shots[:, 0]).max())
            fault = f"clips of {length} frames are needed, the longest shot has {longest}"
            raise UserError(self.store.path, fault, "Prepare a video with longer shots or shorten the clips.")
        chosen = starts[self._draw(len(starts), step, size, stream)]
        return chosen[:, None] + np.arange(length)  # [size, length]

    def _draw(self, count: int, step: int, size: int, stream: str) -> Int64[np.ndarray, "size"]:
        """Positions step * size, ... of an endless sequence of shuffled epochs of range(count)."""
        # Grain counts the seed up by one an epoch; hashed seeds keep streams from meeting in a later epoch.
        name = hashlib.sha256(f"{self.seed}/{stream}/{count}".encode()).digest()
        order = grain.MapDataset.range(count).seed(int.from_bytes(name[:4], "little")).shuffle().repeat()
        return np.array([order[step * size + place] for place in range(size)], np.int64)

    @cached_property
    def mean_frame(self) -> Float32[np.ndarray, "H W C"]:
        """Mean of the training frames, in [0, 255]."""
        total = np.zeros((self.store.size, self.store.size, 3), np.float64)
        for start in range(0, len(self.train_indices), READ_CHUNK):
            total += self.read(self.train_indices[start : start + READ_CHUNK]).sum(axis=0, dtype=np.float64)
        return (total / len(self.train_indices)).astype(np.float32)


def split_shots(
    shots: Int64[np.ndarray, "S 2"], holdout: float
) -> tuple[Int64[np.ndarray, "A 2"], Int64[np.ndarray, "B 2"]]:
    """Training shots and held-out shots.

    Whole shots at the end are held out until `holdout` of the frames is reached. A shot that would hold out far
    more than that is split, and its tail is held out as a shot of its own.

    Args:
        shots: [start, stop) in order.
        holdout: share of the frames, in [0, 0.5].
    """
    wanted = round(holdout * int((shots[:, 1] - shots[:, 0]).sum()))
    if holdout > 0:
        wanted = max(wanted, 2)  # the shortest shot there is
    train, held, count = shots.tolist(), [], 0
    while count < wanted and train:
        start, stop = train.pop()
        if count + stop - start <= OVERSHOOT * wanted and train:
            held.append([start, stop])
            count += stop - start
            continue
        cut = stop - max(2, wanted - count)
        if cut - start >= 2:
            train.append([start, cut])
            held.append([cut, stop])
        else:
            train.append([start, stop])
        break
    return _shot_array(train), _shot_array(held[::-1])


def _shot_array(shots: list[list[int]]) -> Int64[np.ndarray, "S 2"]:
    return np.array(shots, np.int64).reshape(-1, 2)


def frames_of(shots: Int64[np.ndarray, "S 2"]) -> Int64[np.ndarray, "N"]:
    """Numbers of the frames of shots, in order."""
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(start, stop) for start, stop in shots)])


def clip_starts(shots: Int64[np.ndarray, "S 2"], length: int) -> Int64[np.ndarray, "N"]:
    """Every frame with which `length` consecutive frames of one shot begin.

    Raises:
        ValueError: `length` below 1.
    """
    if length < 1:
        raise ValueError(f"a clip has at least 1 frame, got {length}")
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(start, stop - length + 1) for start, stop in shots)])
