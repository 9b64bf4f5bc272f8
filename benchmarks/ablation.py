"""Train and evaluate variants of the dynamics on one tokenizer, each for the same time, and write the table.

    python benchmarks/ablation.py runs/turn --video turn_heldout.mp4 --minutes 2 -o runs/ablation/turn
    python benchmarks/ablation.py runs/turn --video turn_heldout.mp4 --minutes 2 -o runs/ablation/turn \\
        --only seed,token --seeds 0,1,2

The base run must be finished. A variant's run starts as a copy of it (hard links), so that only the stages which its
options touch are trained; variants that differ in play alone share a run. What is there already is not done again:
start the same command to go on. Writes OUT/table.md, OUT/table.json, OUT/curves.png and OUT/compare.html.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablation_table import TRAINED, write_table
from commands import GENIE, call, prepared

from train.ingest.store import Manifest
from train.presets import configured
from train.run import Run
from train.source import Source

STEPS = 64  # of a rollout, as genie evaluate has it
RETRAINED = ("dynamics", "world")  # by every variant; what comes before only where its options touch it


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        what: in words.
        train: options of `genie train`, by dotted path.
        play: options of `genie evaluate`; with no options of training the default's world is played.
    """

    what: str
    train: Mapping[str, str] = field(default_factory=dict)
    play: Mapping[str, str] = field(default_factory=dict)


PLAIN = {
    "dynamics.model.context_noise": "0",
    "dynamics.loss.unroll": "0",
    "dynamics.loss.kind": "mse",
    "dynamics.clip": "17",
}
NEVER = {"reencode": "0"}
GRID = {
    "default": Variant("the preset as it is"),
    "seed": Variant(
        "the seed's recipe: plain, and codes from pairs of w", {**PLAIN, "actions.model.form": "mlp"}, NEVER
    ),
    "plain": Variant("clean context, one step, clips of one window, squared error", PLAIN, NEVER),
    "no-noise": Variant("no noise on the context", {"dynamics.model.context_noise": "0"}),
    "frame-noise": Variant("a noise level for each frame", {"dynamics.loss.noise_scope": "frame"}),
    "unroll-0": Variant("no self-generated steps, never re-encoded", {"dynamics.loss.unroll": "0"}, NEVER),
    "noise-only": Variant("context noise, no self-generated steps", {"dynamics.loss.unroll": "0"}),
    "unroll-8": Variant("8 self-generated steps", {"dynamics.loss.unroll": "8"}),
    "curriculum": Variant(
        "1, 2, 4, 8 self-generated steps as training goes on",
        {"dynamics.loss.unroll": "8", "dynamics.loss.curriculum": "0.5"},
    ),
    "clip-17": Variant("clips of one window", {"dynamics.clip": "17"}),
    "clip-48": Variant("clips of three windows", {"dynamics.clip": "48"}),
    "token": Variant("action as a token of its own", {"dynamics.model.action": "token"}),
    "w-itself": Variant("prediction of w, not of its change", {"dynamics.model.residual": "false"}),
    "mse": Variant("squared error", {"dynamics.loss.kind": "mse"}),
    "wide": Variant("twice as wide", {"dynamics.model.width": "256"}),
    "deep": Variant("twice as deep", {"dynamics.model.layers": "6"}),
    "flow": Variant("a flow head in place of regression", {"dynamics.model.head": "flow"}),
    "features": Variant("codes from the encoder's feature maps", {"actions.model.inputs": "features"}),
    "both": Variant("codes from frames and feature maps", {"actions.model.inputs": "both"}),
    "told-noise": Variant("told a noise level of 0.2 in play", play={"noise-level": "0.2"}),
    "clamp-3": Variant("w cut off at 3 standard deviations", play={"clamp": "3"}),
    "clamp-off": Variant("w never cut off", play={"clamp": "1e9"}),
    "reencode-1": Variant("every generated frame encoded anew", play={"reencode": "1"}),
    "reencode-never": Variant("no generated frame encoded anew", play=NEVER),
}


def main() -> None:
    args = parse()
    chosen = list(GRID) if args.only is None else args.only.split(",")
    if unknown := [name for name in chosen if name not in GRID]:
        sys.exit(f"no such variant: {', '.join(unknown)}; there are {', '.join(GRID)}")
    args.out.mkdir(parents=True, exist_ok=True)
    base = Run(args.base)
    fps = Manifest.load(Source.given((), None, base).folder(base)).fps
    frames = prepared(args.video, args.out / "frames", replace(configured(base, None).ingest, fps=fps))
    place = args.out if args.steps == STEPS else args.out / f"steps-{args.steps}"
    for seed in args.seeds.split(","):
        for name in chosen:
            if not (folder := place / "evaluations" / f"{name}-{seed}").joinpath("metrics.json").exists():
                print(f"== {name}, seed {seed}", flush=True)
                evaluate(name, trained(name, seed, args), frames, folder, args)
            write_table(place, {name: variant.what for name, variant in GRID.items()})
    compare(place)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument("--video", type=Path, required=True, help="a video that the run has not seen")
    parser.add_argument("--actions", type=Path, help="its true actions: measures of the codes too")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training for each variant (default: 3)")
    parser.add_argument("--seeds", default="0", help="seeds of the dynamics, as 0,1,2 (default: 0)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(GRID)}")
    parser.add_argument("--clips", type=int, default=128, help="held-out clips to roll out (default: 128)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a rollout; with others than 64, into OUT/steps-N")
    parser.add_argument("--far", type=int, default=1000, help="step at which drift is measured last (default: 1000)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder of the runs and the table")
    return parser.parse_args()


def trained(name: str, seed: str, args: argparse.Namespace) -> Path:
    """The run of a variant, trained; the first variant with the same options of training lends its name."""
    options = GRID[name].train
    run = args.out / "runs" / f"{next(first for first, other in GRID.items() if other.train == options)}-{seed}"
    if not (run / "run.json").exists():
        copy_run(args.base, run)
    minutes = minutes_for(run, args.minutes)
    words = [word for path, value in options.items() for word in (f"--{path}", value)]
    call([*GENIE, "train", "--run", str(run), "--minutes", f"{minutes:.4f}", "--dynamics.seed", seed, *words])
    return run


def minutes_for(run: Path, minutes: float) -> float:
    """Minutes of training over all processes that a variant's run is given.

    `minutes` come on top of what the base has spent. What it spent on a stage that the variant trains again is the
    variant's to spend, on that stage and the dynamics. A run that has begun keeps what it was given.
    """
    given = run / "ablation_minutes"
    if not given.exists():
        stages = json.loads((run / "run.json").read_text())["stages"]
        spent = sum(stage["seconds"] for stage in stages.values() if stage["state"] == "done")
        given.write_text(repr(spent / 60 + minutes))
    return float(given.read_text())


def copy_run(base: Path, run: Path) -> None:
    """The base without what variants train, files linked and not copied; its record without those stages."""
    beside = run.with_name(run.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    left_out = shutil.ignore_patterns(
        "lock", "evaluation", "inspection", "previews", "checkpoints", "tensorboard", *RETRAINED
    )
    shutil.copytree(base, beside, copy_function=os.link, ignore=left_out)
    record = json.loads((beside / "run.json").read_text())
    kept = {name: stage for name, stage in record["stages"].items() if name not in RETRAINED}
    # Finished for good: more minutes are for what is retrained, not for going on with what time had ended.
    record["stages"] = {name: {**stage, "stopped_at": None} for name, stage in kept.items()}
    (beside / "run.json").unlink()  # a link: the base's record stays as it is
    (beside / "run.json").write_text(json.dumps(record))
    beside.rename(run)


def play_words(variant: Variant) -> list[str]:
    """What `genie evaluate` is told of a variant."""
    return [word for option, value in variant.play.items() for word in (f"--{option}", value)]


def evaluate(name: str, run: Path, frames: Path, folder: Path, args: argparse.Namespace) -> None:
    """OUT/evaluations/VARIANT-SEED."""
    words = play_words(GRID[name])
    words += ["--clips", str(args.clips), "--far", str(args.far), "--all-shots"]
    words += [] if args.steps == STEPS else ["--steps", str(args.steps)]
    words += ["--only", "rollout,control,drift"] if args.actions is None else ["--actions", str(args.actions)]
    call([*GENIE, "evaluate", str(run), "--frames", str(frames), "--out", str(folder), *words])
    stage = json.loads((run / "run.json").read_text())["stages"]["dynamics"]
    (folder / TRAINED).write_text(json.dumps({name: stage[name] for name in ("steps", "seconds")}))


def compare(out: Path) -> None:
    """OUT/compare.html, one evaluation of each variant."""
    first: dict[str, Path] = {}
    for path in sorted((out / "evaluations").glob("*/metrics.json")):
        first.setdefault(path.parent.name.rpartition("-")[0], path.parent)
    if len(first) > 1:
        call([*GENIE, "compare", *map(str, first.values()), "-o", str(out / "compare.html")])


if __name__ == "__main__":
    main()
