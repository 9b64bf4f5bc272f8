"""Videos in, a folder of frames out: several sources at once, resumable, with a report.

Each source is written beside its place and renamed when whole, so that a run that is killed loses only the sources
that it was reading. The manifest comes last and names exactly the sources of this run.
"""

import dataclasses
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from train.errors import UserError
from train.ingest.config import IngestConfig
from train.ingest.probe import MediaError, Source, find_sources, probe
from train.ingest.report import write_report
from train.ingest.store import MANIFEST, Manifest, SourceRecord
from train.ingest.worker import PARTIAL, Outcome, ingest_source, is_disk_full, read_record, start_worker, work

__all__ = ["IngestConfig", "Manifest", "prepare"]

POLL_SECONDS = 0.5
Log = Callable[[str], None]


def prepare(
    inputs: Sequence[Path],
    out: Path,
    config: IngestConfig,
    *,
    workers: int | None = None,
    log: Log = print,
    progress: bool | None = None,
) -> Manifest:
    """Write the frames of videos, folders and images to `out`, for `FrameStore` to read.

    Args:
        inputs: files and folders (searched to any depth).
        out: the folder of frames; what it holds already of the same videos and configuration is kept.
        config: rate, size, crop and what is removed.
        workers: processes; one source each. By default one a core, and none besides this one for a single source.
        log: gets one line for each input that cannot be used or is damaged, and the report.
        progress: show a bar; by default where standard error is a terminal.

    Raises:
        UserError: a missing path, a bad configuration, nothing usable at all, a full disk (the same call continues).
    """
    config.check()
    out = Path(out)
    sources = find_sources([Path(path) for path in inputs], log)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(out)
        for stale in out.glob(f"{PARTIAL}*"):
            shutil.rmtree(stale, ignore_errors=True)
        shown = sys.stderr.isatty() if progress is None else progress
        outcomes = _ingest_all(sources, out, config, workers, log, shown)
        manifest = _assemble(sources, outcomes, out, config, log)
        manifest.save(out)
        _remove_others(out, manifest)
        log(write_report(out).rstrip())
    except FileExistsError as error:
        raise UserError(out, "a file is in the place of the folder", "Choose another --out.") from error
    except PermissionError as error:
        raise UserError(out, "may not be written", "Choose another --out or change its permissions.") from error
    except OSError as error:
        if is_disk_full(error):
            raise _disk_full(out) from error
        raise
    return manifest


def _disk_full(out: Path) -> UserError:
    return UserError(out, "the disk is full", "Free some space and run the same command: finished videos are kept.")


def _ingest_all(
    sources: list[Source], out: Path, config: IngestConfig, workers: int | None, log: Log, progress: bool
) -> list[Outcome]:
    """One outcome a source, in order; faults are logged as they come."""
    outcomes: dict[int, Outcome] = {}
    seconds: dict[int, float] = {}
    for place, source in enumerate(sources):
        try:
            seconds[place] = _length(source, config)
        except (MediaError, OSError) as error:
            outcomes[place] = Outcome(fault=str(error))
            log(f"{source.name}: {error}; left out")
    jobs = [(place, sources[place]) for place in seconds]
    count = min(len(jobs), workers or os.cpu_count() or 1)
    total = round(sum(seconds.values()))
    form = "{desc} |{bar}| {n:.0f} of {total:.0f} s of video [{elapsed}<{remaining}]"
    with tqdm(total=total, desc="prepare", bar_format=form, disable=not progress or not jobs) as bar:
        run = _in_processes if count > 1 else _here
        for place, outcome in run(jobs, out, config, count, bar):
            outcomes[place] = outcome
            _judge(sources[place], outcome, out, log)
    return [outcomes[place] for place in range(len(sources))]


def _length(source: Source, config: IngestConfig) -> float:
    """Seconds of video, about, for the progress bar."""
    if source.kind == "images":
        return len(source.paths) / config.fps
    return probe(source.paths[0]).seconds or 0.0


def _judge(source: Source, outcome: Outcome, out: Path, log: Log) -> None:
    """Log what a source gave; raise where the run cannot go on."""
    if outcome.disk_full:
        raise _disk_full(out)
    if outcome.usage:
        raise UserError(f"{source.name}: {outcome.usage[0]}", *outcome.usage[1:])
    if outcome.fault:
        log(f"{source.name}: {outcome.fault}; left out")
    elif outcome.reused:
        log(f"{source.name}: prepared before, kept")
    else:
        record = read_record(out, outcome.key)
        for note in record.notes:
            log(f"{source.name}: {note}")


def _here(
    jobs: list[tuple[int, Source]], out: Path, config: IngestConfig, _workers: int, bar: tqdm
) -> Iterator[tuple[int, Outcome]]:
    for place, source in jobs:
        yield place, ingest_source(source, out, config, threads=0, pulse=bar.update)


def _in_processes(
    jobs: list[tuple[int, Source]], out: Path, config: IngestConfig, workers: int, bar: tqdm
) -> Iterator[tuple[int, Outcome]]:
    # Spawned, not forked: a fork of a process with running torch or jax threads may hang.
    context = multiprocessing.get_context("spawn")
    stop, done = context.Event(), context.Value("d", 0.0)
    threads = max(1, (os.cpu_count() or 1) // workers)
    crashed: list[tuple[int, Source]] = []
    pool = ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=(stop, done))
    try:
        futures: dict[Future[Outcome], tuple[int, Source]] = {
            pool.submit(work, source, out, config, threads): (place, source) for place, source in jobs
        }
        running = set(futures)
        while running:
            finished, running = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            bar.update(done.value - bar.n)
            for future in finished:
                place, source = futures[future]
                try:
                    yield place, future.result()
                except BrokenProcessPool:
                    crashed.append((place, source))
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    # A decoder that crashes on one file takes the whole pool along: each of the rest gets a process of its own.
    for place, source in crashed:
        yield place, _alone(source, out, config)


def _alone(source: Source, out: Path, config: IngestConfig) -> Outcome:
    context = multiprocessing.get_context("spawn")
    arguments = (context.Event(), context.Value("d", 0.0))
    with ProcessPoolExecutor(1, context, initializer=start_worker, initargs=arguments) as pool:
        try:
            return pool.submit(work, source, out, config, 0).result()
        except BrokenProcessPool:
            return Outcome(fault="the decoder crashed on it")


def _assemble(sources: list[Source], outcomes: list[Outcome], out: Path, config: IngestConfig, log: Log) -> Manifest:
    """The manifest of what is there: shots renumbered over all sources, equal contents once."""
    records: list[SourceRecord] = []
    skipped: list[list[str]] = []
    offset = 0
    for source, outcome in zip(sources, outcomes, strict=True):
        record = read_record(out, outcome.key) if outcome.key else None
        twin = next((r.name for r in records if record and r.sha256 == record.sha256), None)
        if twin:
            log(f"{source.name}: same content as {twin}; left out")
        if record is None or twin:
            skipped.append([source.name, outcome.fault or f"same content as {twin}"])
            continue
        shots = [[start + offset, stop + offset] for start, stop in record.shots]
        records.append(dataclasses.replace(record, name=source.name, shots=shots))
        offset += record.frames
    if not records:
        names = ", ".join(source.name for source in sources[:3]) or "the input"
        raise UserError(names, "nothing in it can be used", "Give at least one video that plays elsewhere.")
    rates = sorted({record.fps for record in records})
    if rates[-1] > rates[0] * 1.05:
        log(
            f"the sources differ in rate ({rates[0]:.4g} to {rates[-1]:.4g} fps); --fps {rates[0]:.4g} makes them equal"
        )
    return Manifest(config.size, config.fingerprint, dataclasses.asdict(config), records, skipped)


def _remove_others(out: Path, manifest: Manifest) -> None:
    """Delete files of this folder's own kind that the manifest does not name: other configurations, other sources."""
    keep = {MANIFEST}
    for source in manifest.sources:
        keep |= {source.index, source.index.replace(".npy", ".json"), *(name for name, _ in source.shards)}
    for record in out.glob("*-*.json"):
        if record.name not in keep and read_record(out, record.stem) is not None:
            for path in out.glob(f"{record.stem}[.-]*"):
                path.unlink()
