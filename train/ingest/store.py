"""The folder of frames: ArrayRecord shards of encoded pictures, one manifest, and the reader of both.

Layout: `manifest.json`, and for each source `KEY-00000.arrayrecord`, ..., `KEY.npy` (frame number in the source of each
kept frame) and `KEY.json` (its record, written last: where it exists, the source is finished).
"""

import dataclasses
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jaxtyping import Int64, UInt8

from train.errors import UserError

SCHEMA = 1
MANIFEST = "manifest.json"
SHARD_BYTES = 256 * 2**20
JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
# Pictures are compressed already; one record a group is what random access needs.
WRITER_OPTIONS = "group_size:1,uncompressed"
READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
PARALLEL_DECODE = 64  # frames from which threads pay


@dataclass(frozen=True)
class SourceRecord:
    """What one source gave.

    Attributes:
        name, sha256: of the source.
        fps: rate of its kept frames; source_fps: its own.
        crop: x, y, width, height of the used region in pixels of the upright picture.
        source_frames: frames on the time grid, kept and dropped.
        shots: [start, stop) in frame numbers; of the source in `KEY.json`, of the whole store in the manifest.
        dropped: runs of [reason, first frame number in the source, number of frames].
        notes: what a person should know (truncated, damaged).
        shards: [file name, frames] in order.
        index: file of the frame numbers.
    """

    name: str
    sha256: str
    fps: float
    source_fps: float
    crop: list[int]
    source_frames: int
    shots: list[list[int]]
    dropped: list[list[Any]]
    notes: list[str]
    shards: list[list[Any]]
    index: str

    @property
    def frames(self) -> int:
        return sum(count for _, count in self.shards)

    def dropped_by_reason(self) -> dict[str, int]:
        """Frames dropped, by reason."""
        totals: dict[str, int] = {}
        for reason, _, count in self.dropped:
            totals[reason] = totals.get(reason, 0) + count
        return totals


@dataclass(frozen=True)
class Manifest:
    """What a folder of frames holds.

    Attributes:
        size: side of the frames in pixels.
        fingerprint: of the configuration, see `prepare.IngestConfig`.
        config: that configuration.
        sources: in the order of the frames.
        skipped: [name, why] of inputs that gave nothing.
    """

    size: int
    fingerprint: str
    config: dict[str, Any]
    sources: list[SourceRecord]
    skipped: list[list[str]] = field(default_factory=list)
    schema: int = SCHEMA

    @property
    def frames(self) -> int:
        return sum(source.frames for source in self.sources)

    @property
    def fps(self) -> float:
        """The rate at which most of the frames were taken."""
        frames_at: dict[float, int] = {}
        for source in self.sources:
            frames_at[source.fps] = frames_at.get(source.fps, 0) + source.frames
        return max(frames_at, key=frames_at.__getitem__)

    @property
    def shots(self) -> Int64[np.ndarray, "S 2"]:
        """[start, stop) of every shot."""
        shots = [shot for source in self.sources for shot in source.shots]
        return np.array(shots, np.int64).reshape(-1, 2)

    def save(self, folder: Path) -> None:
        """Write `manifest.json` beside its place and rename it there."""
        write_json(folder / MANIFEST, {**dataclasses.asdict(self), "frames": self.frames, "fps": self.fps})

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read `manifest.json`.

        Raises:
            UserError: there is none, it is damaged, or a newer program wrote it.
        """
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise UserError(folder, "no folder of frames", "Make one with `genie prepare VIDEO... --out FRAMES`.")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["schema"] > SCHEMA:
                fault = f"written in format {raw['schema']}, this program knows up to {SCHEMA}"
                raise UserError(path, fault, "Update the program or prepare the videos again.")
            raw["sources"] = [SourceRecord(**source) for source in raw["sources"]]
            return cls(**{f.name: raw[f.name] for f in dataclasses.fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(path, "damaged manifest", "Prepare the videos again.") from error


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader finds the old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def encode_frame(frame: UInt8[np.ndarray, "H W 3"], *, lossless: bool) -> bytes:
    """An RGB frame as PNG (lossless) or as JPEG of quality 95 with full colour resolution."""
    suffix, options = (".png", ()) if lossless else (".jpg", JPEG)
    return cv2.imencode(suffix, frame[..., ::-1], options)[1].tobytes()


def decode_frame(record: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """Inverse of `encode_frame`."""
    return cv2.imdecode(np.frombuffer(record, np.uint8), cv2.IMREAD_COLOR_RGB)


class ShardWriter:
    """Writes records to numbered shards of bounded size in one folder.

    Raises:
        OSError, RuntimeError: the disk refuses; ArrayRecord may say so only in `close`.
    """

    def __init__(self, folder: Path, stem: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._stem, self._limit = folder, stem, shard_bytes
        self._writer: ArrayRecordWriter | None = None
        self._bytes = 0
        self.shards: list[list[Any]] = []

    def write(self, record: bytes) -> None:
        if self._writer is None or self._bytes + len(record) > self._limit:
            self.close()
            name = f"{self._stem}-{len(self.shards):05d}.arrayrecord"
            self._writer = ArrayRecordWriter(str(self._folder / name), WRITER_OPTIONS)
            self._bytes = 0
            self.shards.append([name, 0])
        self._writer.write(record)
        self._bytes += len(record)
        self.shards[-1][1] += 1

    def close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()


class FrameStore:
    """Random access to the frames of a prepared folder; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: the folder that `genie prepare --out` wrote.

        Raises:
            UserError: no such folder, a damaged manifest, a missing or cut-off file.
        """
        self.path = Path(path)
        self.manifest = Manifest.load(self.path)
        self._readers = [self._open(name, count) for s in self.sources for name, count in s.shards]
        counts = [count for s in self.sources for _, count in s.shards]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="decode")

    def _open(self, name: str, count: int) -> ArrayRecordReader:
        path, remedy = self.path / name, "Prepare the videos again: finished ones are not redone."
        if not path.is_file():
            raise UserError(path, "missing", remedy)
        try:
            reader = ArrayRecordReader(str(path), READER_OPTIONS)
            found = reader.num_records()
        except (RuntimeError, ValueError, IndexError) as error:
            raise UserError(path, "damaged", "Delete it and prepare the videos again.") from error
        if found != count:
            raise UserError(path, f"{found} frames instead of {count}", "Delete it and prepare the videos again.")
        return reader

    def __len__(self) -> int:
        return self.manifest.frames

    @property
    def sources(self) -> list[SourceRecord]:
        return self.manifest.sources

    @property
    def fps(self) -> float:
        """Frames a second (of most frames, where the sources differ)."""
        return self.manifest.fps

    @property
    def size(self) -> int:
        """Side of the frames in pixels."""
        return self.manifest.size

    @cached_property
    def shots(self) -> Int64[np.ndarray, "S 2"]:
        """[start, stop) of every shot, in order; together they cover every frame once."""
        return self.manifest.shots

    @cached_property
    def source_index(self) -> Int64[np.ndarray, "N"]:
        """Of each frame, its number in its source video."""
        return np.concatenate([np.load(self.path / s.index) for s in self.sources]).astype(np.int64)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        number = int(index) + (len(self) if index < 0 else 0)
        return decode_frame(self._records([number])[0])

    def read(self, indices: Sequence[int] | np.ndarray) -> UInt8[np.ndarray, "N H W 3"]:
        """Frames by number, in the order asked for.

        Raises:
            IndexError: a number outside [0, len(self)).
        """
        records = self._records(np.asarray(indices, np.int64).tolist())
        frames = np.empty((len(records), self.size, self.size, 3), np.uint8)
        decode = self._pool.map if len(records) >= PARALLEL_DECODE else map
        for place, frame in enumerate(decode(decode_frame, records)):
            frames[place] = frame
        return frames

    def _records(self, numbers: list[int]) -> list[bytes]:
        if numbers and (min(numbers) < 0 or max(numbers) >= len(self)):
            raise IndexError(f"frame numbers must lie in [0, {len(self)}), got {min(numbers)}..{max(numbers)}")
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        with self._lock:
            return [
                self._readers[shard].read([number - int(self._starts[shard])])[0]
                for shard, number in zip(shards.tolist(), numbers, strict=True)
            ]
