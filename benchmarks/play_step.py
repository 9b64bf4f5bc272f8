"""What a step of play costs, beside what this machine can do, in one process and in turn.

    python benchmarks/play_step.py -o benchmarks/results/play_step.json     the `laptop` preset, random weights
    python benchmarks/play_step.py WORLD
    python benchmarks/play_step.py --quick                                   a smoke run of seconds

The limit of a step is the time that this machine needs for the arithmetic in float32 and for the memory:

    limit = flop of the decoder / sgemm rate + bytes of the dynamics' weights / copy rate

where the bytes are those of the form that the weights are read in (`--weights`), so half precision has a lower limit.

In play a step follows a step, so each measured call follows two of its own kind, which are not measured. Steps that
have half of an encoding to do are among the measured ones as often as in play: two in eight, which the 95th percentile
shows and the median does not, so the limit, which stands beside the median, is that of a step without. What must hold
of that percentile is asked of the run that watches the memory, steps in a row as in play: among the few that are
measured in turn it depends on one or two.
The rates are those of a large float32 matrix product and of a copy of memory beyond the caches (bytes read and written)
from the same rounds. A step reads every weight of the dynamics once, for one vector: its arithmetic is not counted.
`share` is limit / median. Convolutions that are not matrix products (depthwise ones), activations and rearrangements
count in the flop or not at all, so a share of 1 cannot be reached in float32. The runtime in 8-bit integers is held
against the same limit, which it can pass: integers are multiplied faster.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import torch
from machine import Copy, Matmul, describe
from random_world import random_world
from rows import Row, compare, figure
from timing import Times, interleaved

from torch_bridge.images import to_uint8
from torch_bridge.stylegan2 import Generator, GeneratorConfig
from torch_bridge.world import World

RUNTIMES = ("eager", "onnx", "openvino", "openvino-int8", "compile")
WEIGHTS = ("float32", "float16")
CODE = 0
FRAME_SECONDS, SHARE = 1 / 60, 0.8  # what must hold: one of both


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", nargs="?", help="a world's folder (default: random weights at a preset's sizes)")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES), help=f"of {','.join(RUNTIMES)}")
    parser.add_argument("--weights", default=",".join(WEIGHTS), help=f"of {','.join(WEIGHTS)}")
    parser.add_argument("--rounds", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10_000, help="of the run that watches the memory")
    parser.add_argument("--far", type=int, default=100_000, help="last latent step of the preset `tiny`")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("-o", "--out", type=Path, help="JSON")
    args = parser.parse_args()
    if args.quick:
        args.preset, args.rounds, args.steps, args.far = "debug", 3, 200, 200
    if args.threads:
        torch.set_num_threads(args.threads)
    world = World.load(args.world, args.device) if args.world else random_world(args.preset, args.device)
    result: dict[str, Any] = {"benchmark": "play_step", "machine": describe(), "world": args.world or args.preset}
    result |= step_costs(world, args.runtimes.split(","), args.weights.split(","), args.rounds)
    far = random_world("debug" if args.quick else "tiny", args.device)
    result["latent_step"] = {"preset": "debug" if args.quick else "tiny", **rollout_costs(far, args.far)}
    runtime, weights = result["best"].split()  # not those that were measured last
    world.use_runtime(runtime)
    world.use_weights(weights)
    result["memory"] = memory_growth(world, args.steps)
    result |= {
        "title": f"A step of play, preset or world {result['world']}",
        "quick": args.quick,
        "device": args.device,
    }
    result["rows"] = [asdict(row) for row in rows_of(result)]
    print("\n".join(lines(result)))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def rows_of(result: dict[str, Any]) -> list[Row]:
    """What holds and what does not, for the table of all benchmarks."""
    times, best = result["times"], result["best"]
    runtime, weights = best.split()
    step, drawn, peer = (Times(**times[name]) for name in (f"step {best}", f"frame {runtime}", "StyleGAN2 eager"))
    limit, share = result["limit_seconds"][weights], result["share"][best]
    fast = step.median <= FRAME_SECONDS or share >= SHARE
    goal = f"at most {FRAME_SECONDS * 1e3:.1f} ms or {SHARE:.0%} of the limit"
    shown = Row(
        f"step by {runtime}, weights in {weights}",
        step.median,
        "s",
        step.low,
        step.high,
        "the limit in float32",
        limit,
        ratio=share,
        goal=goal,
        holds=fast,
    )

    def against(title: str, kind: str, name: str, other: str) -> list[Row]:
        ours, theirs = times.get(f"{kind} {name}"), times.get(f"{kind} {other}")
        if name == other or ours is None or theirs is None:
            return []
        return [compare(f"{title} {name}", Times(**ours), other, Times(**theirs))]

    far = [
        figure(f"latent step of {result['latent_step']['preset']} at step {number}", t["median"], "s")
        for number, t in result["latent_step"]["at"].items()
    ]
    memory = result["memory"]
    row = Times(**memory["step"])
    return [
        shown,
        figure(
            f"95th percentile of {memory['steps']} steps in a row, over the median", row.p95 / row.median, "", most=1.5
        ),
        figure("95th percentile of a step in turn with all others, over the median", step.p95 / step.median, ""),
        compare(f"a frame by {runtime}", drawn, "eager StyleGAN2", peer),
        *against("a frame encoded by", "encode", result["encoding"][runtime], "eager"),
        *against("latent step, weights in", "latent step", "float16", "float32"),
        *far,
        figure(f"memory grown over 90% of {memory['steps']} steps", memory["growth"] / 2**20, "MiB"),
    ]


def prompt_of(world: World) -> np.ndarray:
    """A prompt: the world's first, or a picture of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (1, world.size, world.size, 3), np.uint8)
    return next(iter(world.prompts.values()), noise)


def step_costs(world: World, runtimes: list[str], weights: list[str], rounds: int) -> dict[str, Any]:
    """Times of `World.step` by runtimes and forms of weights, of its parts, of limits and peer, in the same rounds."""
    device, size = world.codec.device, world.size
    product, copy = (
        Matmul(512 if size < 256 else 1536, device=device.type),
        Copy(8 if size < 256 else 256, device=device.type),
    )
    peer = (
        Generator(GeneratorConfig(size=size, style_dim=world.config.style_dim, channel_multiplier=1)).to(device).eval()
    )
    w_BD = torch.zeros(1, world.config.style_dim, device=device)
    functions: dict[str, Any] = {"sgemm": product, "copy": copy}
    left_out: dict[str, str] = {}

    def usable(use: Callable[[str], None], names: list[str]) -> Iterator[str]:
        for name in names:
            try:
                use(name)
            except ValueError as error:
                left_out[name] = str(error)
            else:
                yield name

    steps, encoding = {}, {}
    for form in usable(world.use_weights, weights):
        steps[form] = world.latent_step
        functions[f"latent step {form}"] = latent_stepper(world, world.latent_step)
    for runtime in usable(world.use_runtime, runtimes):
        functions |= {f"step {runtime} {form}": stepper(world, step) for form, step in steps.items()}
        functions[f"frame {runtime}"] = drawer(world)
        encoding[runtime] = world.encoding.name
        functions.setdefault(f"encode {world.encoding.name}", encoder(world))

    @torch.inference_mode()
    def stylegan2() -> None:
        to_uint8(peer.synthesis(w_BD, noise="fixed")).cpu()

    functions["StyleGAN2 eager"] = stylegan2
    times = interleaved(functions, rounds=rounds, warmup=3, lead=2)  # so that all of 8 steps are measured
    gflop = world.gflop_per_frame()
    rates = {"sgemm_flops": product.flop / times["sgemm"].median, "copy_bytes": copy.octets / times["copy"].median}
    drawn = 1e9 * gflop["decoder"] / rates["sgemm_flops"]
    octets = {form: world.player.weight_bytes(half=form == "float16") for form in steps}
    limits = {form: drawn + octets[form] / rates["copy_bytes"] for form in steps}
    taken = {name.removeprefix("step "): t for name, t in times.items() if name.startswith("step ")}
    best = min(taken, key=lambda name: taken[name].median)
    return {
        "times": {name: t.as_dict() for name, t in times.items()},
        "left_out": left_out,
        "rates": rates,
        "gflop": gflop,
        "weight_bytes": octets,
        "encoding": encoding,
        "reencode_every": world.reencode_every(),
        "limit_seconds": {"drawing": drawn, **limits},
        "best": best,
        "share": {name: limits[name.split()[1]] / t.median for name, t in taken.items()},
        "p95_to_median": {name: t.p95 / t.median for name, t in taken.items()},
        "stylegan2_ratio": times["StyleGAN2 eager"].median / times[f"frame {best.split()[0]}"].median,
    }


def stepper(world: World, step: Any) -> Any:
    """`World.step` of a session of its own, by the runtime that the world has now and the given latent step."""
    networks, session = world.networks, world.session()
    session.reset(prompt_of(world))

    def one() -> None:
        world.networks, world.latent_step = networks, step
        session.step(CODE)

    return one


def drawer(world: World) -> Any:
    """One frame by the runtime that the world has now."""
    draw = world.networks.draw
    w_BLD = torch.zeros(1, world.config.rows, world.config.style_dim, device=world.codec.device)
    return lambda: draw(w_BLD).cpu()


def encoder(world: World) -> Any:
    """One frame encoded by the runtime that the world has now."""
    encode, frame = world.networks.encode, torch.zeros(1, world.size, world.size, 3, dtype=torch.uint8)
    return lambda: encode(frame.to(world.codec.device)).cpu()


def latent_stepper(world: World, step: Any) -> Any:
    """One step of the dynamics, computed to its end."""
    knobs = world.knobs()
    state = world.start(prompt_of(world)[None], None, knobs)
    codes_B = jax.device_put(np.array([CODE], np.int32), world.jax_device)

    def one() -> None:
        nonlocal state
        state, w_BLD = step(state, codes_B, knobs)
        w_BLD.block_until_ready()

    return one


def rollout_costs(world: World, last: int, block: int = 50) -> dict[str, Any]:
    """Times of the latent step at step 10, 1,000 and `last` of one rollout, all of whose steps are taken."""
    one, marks, found, step = (
        latent_stepper(world, world.player.step),
        {m for m in (10, 1000, last) if m <= last},
        {},
        0,
    )
    while step < last + block:
        if step + 1 not in marks:
            one()
            step += 1
            continue
        seconds = []
        for _ in range(block):
            began = time.perf_counter()
            one()
            seconds.append(time.perf_counter() - began)
        step += block
        found[str(step - block + 1)] = Times.of(seconds).as_dict()
    return {"at": found, "compiled": world.player.compiled_steps()}


def memory_growth(world: World, steps: int) -> dict[str, Any]:
    """Resident bytes after a tenth of the steps and at the end of them, and the steps' times."""
    world.reset(prompt_of(world))
    process, seconds, first = psutil.Process(), [], 0
    for number in range(1, steps + 1):
        began = time.perf_counter()
        world.step(CODE)
        seconds.append(time.perf_counter() - began)
        if number == steps // 10:
            first = process.memory_info().rss
    last = process.memory_info().rss
    return {"steps": steps, "first": first, "last": last, "growth": last - first, "step": Times.of(seconds).as_dict()}


def lines(result: dict[str, Any]) -> list[str]:
    """The table for a terminal."""
    rows = [f"{result['world']} on {result['machine']['cpu']}, {result['machine']['threads']} threads"]
    rows += [f"{'':<26}{'median':>10}{'quartiles':>20}{'95 %':>10}   ms"]
    for name, t in result["times"].items():
        quartiles = f"{t['low'] * 1e3:.2f} .. {t['high'] * 1e3:.2f}"
        rows.append(f"{name:<26}{t['median'] * 1e3:>10.2f}{quartiles:>20}{t['p95'] * 1e3:>10.2f}")
    memory = result["memory"]
    row = Times(**memory["step"])
    rows += [f"left out: {name}: {why}" for name, why in result["left_out"].items()]
    gflops, copied = result["rates"]["sgemm_flops"] / 1e9, result["rates"]["copy_bytes"] / 1e9
    limits = ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in result["limit_seconds"].items())
    rows.append(f"sgemm {gflops:.0f} Gflop/s, copy {copied:.1f} GB/s: limits of a step in ms: {limits}")
    for name, share in result["share"].items():
        rows.append(f"step {name}: {share:.0%} of the limit, p95 {result['p95_to_median'][name]:.2f} of the median")
    rows.append(
        f"StyleGAN2 takes {result['stylegan2_ratio']:.1f} times as long as a frame by {result['best'].split()[0]}"
    )
    at = ", ".join(f"{step}: {t['median'] * 1e3:.3f} ms" for step, t in result["latent_step"]["at"].items())
    rows.append(f"latent step of preset {result['latent_step']['preset']} at step {at}")
    rows.append(
        f"{memory['steps']} steps in a row: median {row.median * 1e3:.2f} ms, p95 {row.p95 / row.median:.2f} of it"
    )
    rows.append(f"memory grew by {memory['growth'] / 2**20:.1f} MiB over the last 90% of {memory['steps']} steps")
    return rows


if __name__ == "__main__":
    main()
