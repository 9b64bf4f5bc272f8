"""Train and evaluate variants of the dynamics on one tokenizer, each for the same time, and write the table.

    python benchmarks/ablation.py runs/demo --video examples/doom_room_heldout.mp4 \\
        --actions examples/doom_room_heldout.npz --minutes 3 --seeds 0,1,2 -o runs/ablation

The base run must be finished. A variant's run starts as a copy of it (hard links), so that only the stages which its
options touch are trained, for `--minutes` each; a variant of play alone is the default's world, evaluated otherwise.
What is evaluated already is not done again: start the same command to go on. Writes OUT/table.md, OUT/table.json and
OUT/compare.html.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from train.evaluate.results import look_up

GENIE = [sys.executable, "-m", "app.cli"]
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
GRID = {
    "default": Variant("the preset as it is"),
    "plain": Variant("the seed's recipe: clean context, one step, clips of one window, squared error", PLAIN),
    "no-noise": Variant("no noise on the context", {"dynamics.model.context_noise": "0"}),
    "frame-noise": Variant("a noise level for each frame", {"dynamics.loss.noise_scope": "frame"}),
    "unroll-0": Variant("no self-generated steps", {"dynamics.loss.unroll": "0"}),
    "unroll-8": Variant("8 self-generated steps", {"dynamics.loss.unroll": "8"}),
    "clip-17": Variant("clips of one window", {"dynamics.clip": "17"}),
    "clip-48": Variant("clips of three windows", {"dynamics.clip": "48"}),
    "token": Variant("action as a token of its own", {"dynamics.model.action": "token"}),
    "w-itself": Variant("prediction of w, not of its change", {"dynamics.model.residual": "false"}),
    "mse": Variant("squared error", {"dynamics.loss.kind": "mse"}),
    "wide": Variant("twice as wide", {"dynamics.model.width": "256"}),
    "deep": Variant("twice as deep", {"dynamics.model.layers": "6"}),
    "told-noise": Variant("told a noise level of 0.2 in play", play={"noise-level": "0.2"}),
    "clamp-3": Variant("w cut off at 3 standard deviations", play={"clamp": "3"}),
    "clamp-off": Variant("w never cut off", play={"clamp": "1e9"}),
    "reencode-1": Variant("every generated frame encoded anew", play={"reencode": "1"}),
    "reencode-8": Variant("every eighth generated frame encoded anew", play={"reencode": "8"}),
}
# Heading, key in metrics.json, format.
COLUMNS = (
    ("PSNR 1", "rollout.psnr.1", "{:.2f}"),
    ("PSNR 8", "rollout.psnr.8", "{:.2f}"),
    ("PSNR 16", "rollout.psnr.16", "{:.2f}"),
    ("PSNR 64", "rollout.psnr.64", "{:.2f}"),
    ("horizon", "rollout.horizon", "{:.0f}"),
    ("sharpness 64", "rollout.sharpness.64", "{:.2f}"),
    ("delta PSNR 4", "control.delta_psnr.4", "{:.2f}"),
    ("Frechet 16", "drift.frechet_w.16", "{:.2f}"),
    ("Frechet 1000", "drift.frechet_w.1000", "{:.2f}"),
)


def main() -> None:
    args = parse()
    chosen = (
        list(GRID) if args.only is None else ["default", *(name for name in args.only.split(",") if name != "default")]
    )
    if unknown := [name for name in chosen if name not in GRID]:
        sys.exit(f"no such variant: {', '.join(unknown)}; there are {', '.join(GRID)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds.split(","):
        for name in chosen:
            print(f"== {name}, seed {seed}", flush=True)
            evaluate(name, trained(name, seed, args), seed, args)
            write_table(args.out, chosen)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument("--video", type=Path, required=True, help="a video that the run has not seen")
    parser.add_argument("--actions", type=Path, help="its true actions")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training for each variant (default: 3)")
    parser.add_argument("--seeds", default="0", help="seeds of the trained stages, as 0,1,2 (default: 0)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(GRID)}")
    parser.add_argument("--profile", default="quick", choices=("quick", "normal", "full"), help="of the evaluation")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder of the runs and the table")
    return parser.parse_args()


def trained(name: str, seed: str, args: argparse.Namespace) -> Path:
    """The run of a variant, trained; that of the default where only play differs."""
    options = GRID[name].train
    run = args.out / f"{name if options else 'default'}-{seed}"
    if not (run / "run.json").exists():
        copy_run(args.base, run)
    record = json.loads((run / "run.json").read_text())
    spent = sum(stage["seconds"] for stage in record["stages"].values() if stage["state"] == "done")
    # A variant's time comes on top of what the base has spent; a variant that is trained already keeps its budget.
    budget_file = run / "ablation_minutes"
    if not budget_file.exists():
        budget_file.write_text(f"{spent / 60 + args.minutes:.4f}")
    words = [word for path, value in options.items() for word in (f"--{path}", value)]
    call([*GENIE, "train", "--run", str(run), "--minutes", budget_file.read_text(), "--dynamics.seed", seed, *words])
    return run


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


def evaluate(name: str, run: Path, seed: str, args: argparse.Namespace) -> None:
    """OUT/evaluations/VARIANT-SEED, unless it is there."""
    folder = args.out / "evaluations" / f"{name}-{seed}"
    if (folder / "metrics.json").exists():
        return
    words = [word for option, value in GRID[name].play.items() for word in (f"--{option}", value)]
    words += [] if args.profile == "normal" else [f"--{args.profile}"]
    words += [] if args.actions is None else ["--actions", str(args.actions)]
    call([*GENIE, "evaluate", str(run), "--video", str(args.video), "--out", str(folder), *words])


def write_table(out: Path, chosen: Sequence[str]) -> None:
    """OUT/table.md and OUT/table.json of what is evaluated so far; medians over seeds, and their range."""
    lines = [
        f"| variant | | seeds | {' | '.join(heading for heading, _, _ in COLUMNS)} |",
        f"|---|---|---{'|---' * len(COLUMNS)}|",
    ]
    values: dict[str, dict[str, list[float | None]]] = {}
    for name in chosen:
        found = [json.loads(path.read_text()) for path in sorted((out / "evaluations").glob(f"{name}-*/metrics.json"))]
        if found:
            values[name] = {key: [look_up(metrics, key) for metrics in found] for _, key, _ in COLUMNS}
            cells = [cell(values[name][key], form) for _, key, form in COLUMNS]
            lines.append(f"| {name} | {GRID[name].what} | {len(found)} | {' | '.join(cells)} |")
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "table.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    evaluations = [str(out / "evaluations" / f"{name}-{seed_of(out, name)}") for name in values]
    if len(evaluations) > 1:
        call([*GENIE, "compare", *evaluations, "-o", str(out / "compare.html")])


def seed_of(out: Path, name: str) -> str:
    """The first seed of a variant that is evaluated."""
    return min(
        path.parent.name.removeprefix(f"{name}-") for path in (out / "evaluations").glob(f"{name}-*/metrics.json")
    )


def cell(values: Sequence[float | None], form: str) -> str:
    """The median, and the range where there are several seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "not measured"
    middle = form.format(statistics.median(known))
    return middle if len(known) == 1 else f"{middle} ({form.format(min(known))} to {form.format(max(known))})"


def call(words: Sequence[str]) -> None:
    """Run a command; stop where it fails."""
    print(" ".join(words), flush=True)
    subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
