"""One source to its shards. Runs in a process of its own and therefore imports neither torch nor jax."""

import array
import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from train.errors import UserError
from train.ingest.config import IngestConfig
from train.ingest.crop import Box
from train.ingest.decode import Framer, letterbox_content, read_images
from train.ingest.probe import MediaError, Source, digest, probe
from train.ingest.shots import ShotSplitter, Verdict
from train.ingest.store import ShardWriter, SourceRecord, encode_frame, write_json
from train.ingest.video import DecodeLog, Picture, output_rate, read_video

PARTIAL = ".partial-"  # folders of half-written sources begin with it
MIN_SHOT = 2  # frames; a single one has no motion to learn from
PULSE_FRAMES = 16
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DISK_FULL_WORDS = ("no space left", "file too large", "quota exceeded")


class StoppedError(Exception):
    """The program that asked for the frames is ending."""


@dataclass(frozen=True)
class Outcome:
    """What became of a source: the key of its finished files, or why there are none.

    `disk_full` ends the whole run; `usage` is a fault of the configuration rather than of the source.
    """

    key: str | None = None
    fault: str | None = None
    reused: bool = False
    disk_full: bool = False
    usage: tuple[str, str, str] | None = None


def ingest_source(
    source: Source, out: Path, config: IngestConfig, *, threads: int, pulse: Callable[[float], None]
) -> Outcome:
    """Decode, judge and write one source; what was finished before is recognised by its content and not redone.

    Args:
        source: what to read.
        out: the folder of frames.
        config: how.
        threads: of the decoder, 0 for one a core.
        pulse: called every few frames with the seconds of video done since the last call; may raise `StoppedError`.
    """
    partial = None
    try:
        sha256 = digest(source)
        key = f"{sha256[:12]}-{config.fingerprint[:8]}"
        if is_finished(out, key):
            return Outcome(key, reused=True)
        partial = out / f"{PARTIAL}{key}-{os.getpid()}"
        partial.mkdir(parents=True)
        record = _Ingestion(source, sha256, key, partial, config, threads, pulse).run()
        if not record.frames:
            return Outcome(fault=_nothing_kept(record))
        for path in sorted(partial.iterdir(), key=lambda p: p.suffix == ".json"):  # the record last
            os.replace(path, out / path.name)
        return Outcome(key)
    except MediaError as error:
        return Outcome(fault=str(error))
    except UserError as error:
        return Outcome(usage=(error.subject, error.fault, error.remedy))
    except (OSError, RuntimeError, av.FFmpegError) as error:
        if is_disk_full(error):
            return Outcome(fault="the disk is full", disk_full=True)
        if isinstance(error, RuntimeError):
            raise
        return Outcome(fault=f"cannot be read ({error})")
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of Python or of ArrayRecord means that no more can be written."""
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return any(words in str(error).lower() for words in DISK_FULL_WORDS)


def is_finished(out: Path, key: str) -> bool:
    """Whether every file of a source is in its place."""
    record = read_record(out, key)
    return record is not None and all((out / name).is_file() for name, _ in [*record.shards, [record.index, 0]])


def read_record(out: Path, key: str) -> SourceRecord | None:
    """The record of a finished source; None where there is none, or one that this program did not write."""
    try:
        return SourceRecord(**json.loads((out / f"{key}.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _nothing_kept(record: SourceRecord) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in record.dropped_by_reason().items())
    return f"nothing to keep in its {record.source_frames} frames ({reasons})"


class _Candidate(NamedTuple):
    """A frame on its way: its number in the source and its place on the time grid."""

    frame: np.ndarray
    index: int
    place: int


class _Ingestion:
    """The state of one source while it is read."""

    def __init__(
        self,
        source: Source,
        sha256: str,
        key: str,
        folder: Path,
        config: IngestConfig,
        threads: int,
        pulse: Callable[[float], None],
    ) -> None:
        self.source, self.sha256, self.key, self.folder = source, sha256, key, folder
        self.config, self.threads, self.pulse = config, threads, pulse
        self.writer = ShardWriter(folder, key)
        self.indices = array.array("q")
        self.shots: list[list[int]] = []
        self.dropped: list[list[Any]] = []  # [reason, first frame number, frames, last place]
        self.log = DecodeLog()
        self.waiting: list[_Candidate] = []  # the first frames of a shot that is still too short

    def run(self) -> SourceRecord:
        """Read everything, write the shards, the frame numbers and the record."""
        source_fps = self.config.fps if self.source.kind == "images" else probe(self.source.paths[0]).rate
        fps = output_rate(source_fps, self.config.fps)
        content = self._content()
        frame_of = Framer(size=self.config.size, crop=self.config.crop, content=content)
        splitter: ShotSplitter[_Candidate] = ShotSplitter(
            fps=fps, duplicates_seconds=self.config.duplicates_seconds, detect_cuts=self.config.detect_cuts
        )
        count, frame = 0, None
        for picture, repeats in self._pictures():
            if frame is None or not repeats:
                frame = frame_of(picture)
            candidate = _Candidate(frame, picture.source_index, count)
            for verdict in splitter.push(frame, candidate, gap=picture.broken and not repeats):
                self._settle(verdict)
            count += 1
            if count % PULSE_FRAMES == 0:
                self.pulse(PULSE_FRAMES / fps)
        for verdict in splitter.flush():
            self._settle(verdict)
        self._end_shot()
        self.writer.close()
        return self._write_record(fps, source_fps, list(frame_of.region), count)

    def _content(self) -> Box | None:
        wanted = self.config.letterbox and self.source.kind == "video" and self.config.crop in ("center", "fit")
        return letterbox_content(self.source.paths[0]) if wanted else None

    def _pictures(self) -> Iterator[tuple[Picture, bool]]:
        if self.source.kind == "images":
            return read_images(self.source.paths, self.log)
        # A late frame repeats what is on the screen, but never for longer than duplicates are kept and counted.
        hold = self.config.duplicates_seconds + 1.0
        return read_video(self.source.paths[0], fps=self.config.fps, log=self.log, threads=self.threads, max_hold=hold)

    def _settle(self, verdict: Verdict[_Candidate]) -> None:
        if verdict.dropped:
            self._drop(verdict.dropped, verdict.item)
            return
        if verdict.starts_shot:
            self._end_shot()
            self.shots.append([len(self.indices), len(self.indices)])
        self.waiting.append(verdict.item)
        shot = self.shots[-1]
        if shot[1] > shot[0] or len(self.waiting) >= MIN_SHOT:
            for candidate in self.waiting:
                self.writer.write(encode_frame(candidate.frame, lossless=self.config.lossless))
                self.indices.append(candidate.index)
            shot[1] = len(self.indices)
            self.waiting.clear()

    def _end_shot(self) -> None:
        """Drop what waits: its shot stayed too short."""
        for candidate in self.waiting:
            self._drop("short shot", candidate)
        if self.waiting:
            self.shots.pop()
        self.waiting.clear()

    def _drop(self, reason: str, candidate: _Candidate) -> None:
        runs = self.dropped
        if runs and runs[-1][0] == reason and runs[-1][3] == candidate.place - 1:
            runs[-1][2] += 1
            runs[-1][3] = candidate.place
        else:
            runs.append([reason, candidate.index, 1, candidate.place])

    def _write_record(self, fps: float, source_fps: float, region: list[int], count: int) -> SourceRecord:
        index_file = f"{self.key}.npy"
        np.save(self.folder / index_file, np.frombuffer(self.indices, np.int64))
        record = SourceRecord(
            name=self.source.name,
            sha256=self.sha256,
            fps=fps,
            source_fps=source_fps,
            crop=region,
            source_frames=count,
            shots=self.shots,
            dropped=[run[:3] for run in self.dropped],
            notes=self.log.notes,
            shards=self.writer.shards,
            index=index_file,
        )
        write_json(self.folder / f"{self.key}.json", dataclasses.asdict(record))
        return record


_stop: object = None
_done: object = None


def start_worker(stop: object, done: object) -> None:
    """Initialise a worker process with the event that ends it and the counter of seconds done."""
    global _stop, _done
    _stop, _done = stop, done
    cv2.setNumThreads(1)  # the cores are shared out between processes already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C and tells its workers


def work(source: Source, out: Path, config: IngestConfig, threads: int) -> Outcome:
    """`ingest_source` inside a worker process."""

    def pulse(seconds: float) -> None:
        parent = multiprocessing.parent_process()
        if _stop.is_set() or (parent is not None and not parent.is_alive()):
            raise StoppedError
        with _done.get_lock():
            _done.value += seconds

    try:
        return ingest_source(source, out, config, threads=threads, pulse=pulse)
    except StoppedError:
        return Outcome(fault="stopped")
