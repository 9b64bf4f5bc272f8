"""Speed of play: `World.step` to a uint8 frame, one player, as a person meets it.

Measured in a process of its own, so that neither the memory nor the compiled programs of the evaluation count.
"""

import multiprocessing
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import psutil
from jaxtyping import UInt8

from train.evaluate.results import Results
from train.evaluate.subject import EvaluatedWorld

WARM_UP = 20
KEYS = ("fps", "p50_ms", "p95_ms", "first_frame_ms", "peak_memory_mb")


def time_play(
    world: EvaluatedWorld, prompt: UInt8[np.ndarray, "T H W C"], code_count: int, steps: int, seed: int
) -> dict[str, float]:
    """Reset, warm up, then `steps` timed steps with random codes.

    `first_frame_ms` reaches from the reset to the first frame, compilation included; `peak_memory_mb` is the most
    that this process has held (MiB), or what it holds now on systems that do not tell the peak.
    """
    codes = np.random.default_rng(seed).integers(code_count, size=WARM_UP + steps)
    began = time.perf_counter()
    world.reset(prompt)
    np.asarray(world.step(int(codes[0])))
    first = time.perf_counter() - began
    for code in codes[1:WARM_UP]:
        np.asarray(world.step(int(code)))
    took = np.empty(steps)
    for i, code in enumerate(codes[WARM_UP:]):
        start = time.perf_counter()
        np.asarray(world.step(int(code)))
        took[i] = time.perf_counter() - start
    p50, p95 = np.percentile(took, [50, 95])
    return {
        "fps": 1 / took.mean(),
        "p50_ms": 1000 * p50,
        "p95_ms": 1000 * p95,
        "first_frame_ms": 1000 * first,
        "peak_memory_mb": _peak_bytes() / 2**20,
    }


def report_play(
    world: EvaluatedWorld,
    folder: tuple[Path, str] | None,
    prompt: UInt8[np.ndarray, "T H W C"],
    code_count: int,
    steps: int,
    seed: int,
    results: Results,
) -> None:
    """Write `play.*`, in a fresh process where the world's folder and device are known, else in this one."""
    said = {"n": steps, "warm_up": WARM_UP, "seed": seed, "prompt": len(prompt), "machine": machine()}
    if folder is None:
        timed, said["process"] = time_play(world, prompt, code_count, steps, seed), "the evaluation's own"
    else:
        said["process"] = "fresh"
        try:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                timed = pool.submit(_load_and_time, folder, prompt, code_count, steps, seed).result()
        except BrokenProcessPool:
            for key in KEYS:
                results.missing(f"play.{key}", "the process that played the world was killed (too little memory?)")
            return
    for key in KEYS:
        results.number(f"play.{key}", float(timed[key]), **said)


def machine() -> str:
    """The machine in words: processor, cores, memory."""
    cores, memory = psutil.cpu_count(logical=True), psutil.virtual_memory().total / 2**30
    return f"{platform.system()} {platform.machine()}, {cores} cores, {memory:.0f} GiB"


def _load_and_time(
    folder: tuple[Path, str], prompt: UInt8[np.ndarray, "T H W C"], code_count: int, steps: int, seed: int
) -> dict[str, float]:
    from torch_bridge.world import World

    return time_play(World.load(folder[0], device=folder[1]), prompt, code_count, steps, seed)


def _peak_bytes() -> int:
    if sys.platform in ("linux", "darwin"):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    info = psutil.Process().memory_info()
    return getattr(info, "peak_wset", info.rss)
