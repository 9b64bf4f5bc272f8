"""Put the figures of an evaluated run into the README, with the machine that they were measured on.

    python benchmarks/readme.py runs/demo          what `make readme` does after `make demo`

Fills the part between the `measured:begin` and `measured:end` marks from RUN/run.json, RUN/evaluation/metrics.json and
RUN/crosscheck.json, and copies the run's pictures into docs/images. No figure of that part is typed in by hand.
"""

import argparse
import datetime
import json
import shutil
from pathlib import Path

from torch_bridge.crosscheck.report import Report, Row
from torch_bridge.runtimes.measured import cpu_model, usable_cores

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- measured:begin -->", "<!-- measured:end -->"
PICTURES = {
    "rollout.png": "demo_rollout.png",
    "evaluation/rollouts.png": "demo_rollouts.png",
    "evaluation/reconstruction.png": "demo_reconstruction.png",
    "evaluation/psnr_by_step.png": "demo_psnr_by_step.png",
}
# Label, path in metrics.json, format, path of what it is read against, what that is.
ROWS = (
    ("reconstruction, PSNR", "reconstruction.psnr", "{:.1f} dB", "reconstruction.mean_frame_psnr", "mean frame"),
    ("reconstruction, sharpness (1 = as the truth)", "reconstruction.sharpness", "{:.2f}", None, ""),
    ("encode(decode(w)), cosine distance to w", "reconstruction.fixed_point", "{:.4f}", None, ""),
    ("rollout, PSNR at step 1", "rollout.psnr.1", "{:.1f} dB", "rollout.copy_last_psnr.1", "last frame held"),
    ("rollout, PSNR at step 8", "rollout.psnr.8", "{:.1f} dB", "rollout.copy_last_psnr.8", "last frame held"),
    ("rollout, PSNR at step 64", "rollout.psnr.64", "{:.1f} dB", "rollout.copy_last_psnr.64", "last frame held"),
    ("rollout, sharpness at step 64", "rollout.sharpness.64", "{:.2f}", None, ""),
    ("horizon: last step better than the held frame", "rollout.horizon", "{:.0f}", None, ""),
    ("control, delta PSNR at step 4", "control.delta_psnr.4", "{:.2f} dB", None, ""),
    ("latent actions in use", "actions.usage", "{:.0f} of 8", None, ""),
    ("true action from the code", "actions.mode_accuracy", "{:.2f}", "actions.chance.mode_accuracy", "majority"),
    ("`World.step` to a frame", "play.p50_ms", "{:.1f} ms", None, ""),
    ("parameters in play", "budget.parameters.total", "{:,.0f}", None, ""),
    ("GFLOP a frame", "budget.gflop_per_frame.total", "{:.3f}", None, ""),
)


def look_up(tree: dict, path: str) -> float | None:
    """The number at a dotted path, None where it was not measured."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def row(metrics: dict, label: str, path: str, form: str, against: str | None, name: str) -> str:
    """One line of the table."""
    value = look_up(metrics, path)
    floor = look_up(metrics, against) if against else None
    shown = "not measured" if value is None else form.format(value)
    return f"| {label} | {shown} | {'' if floor is None else f'{name}: {form.format(floor)}'} |"


def processor() -> str:
    """The processor's name and the number of cores that this process may use."""
    return f"{cpu_model()}, {usable_cores()} cores"


def measured(run: Path) -> str:
    """The part of the README between the marks."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    minutes = sum(stage["seconds"] for stage in record["stages"].values()) / 60
    versions, data = record["versions"], metrics["data"]
    lines = [
        "## Measured",
        "",
        f"`make demo` on {processor()}, no GPU, {datetime.date.today().isoformat()} "
        f"(Python {versions['python']}, jax {versions['jax']}, torch {versions['torch']}): {minutes:.1f} minutes of "
        f"training, then {data['clips']} held-out clips of {data['prompt']} + {data['steps']} frames, seed "
        f"{data['seed']}.",
        "",
        "| | measured | against |",
        "|---|---|---|",
        *(row(metrics, *columns) for columns in ROWS),
        "",
        "Intervals and the rest: `runs/demo/evaluation/metrics.json`, explained in [docs/metrics.md](docs/metrics.md).",
        "",
        "![Held-out clips: truth, rollout, error](docs/images/demo_rollouts.png)",
        "",
        *crosschecked(Report.from_json(json.loads((run / "crosscheck.json").read_text(encoding="utf-8")))),
    ]
    return "\n".join(lines)


def share(row: Row) -> float:
    """How much of its tolerance a row used; a row without tolerance used none or all."""
    return row.relative / row.tolerance if row.tolerance else float(not row.passed)


def crosschecked(report: Report) -> list[str]:
    """The part on how exactly the Flax modules equal their twins."""
    worst, equal = max(report.rows, key=share), sum(row.passed for row in report.rows)
    packages = ", ".join(f"{name} {report.versions[name]}" for name in ("x-transformers", "vector-quantize-pytorch"))
    return [
        "## Checked against PyTorch",
        "",
        f"`genie crosscheck runs/demo` runs every Flax module of that world beside its PyTorch twin ({packages}, "
        f"`torch.optim.AdamW`) on the same weights and inputs: {equal} of {len(report.rows)} rows are equal. The row "
        f"nearest to its tolerance, {worst.module}, uses {share(worst):.0%} of it. "
        "What each row is: [docs/crosscheck.md](docs/crosscheck.md).",
        "",
        "<details><summary>The table</summary>",
        "",
        report.table(),
        "",
        "</details>",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run with an evaluation")
    run = parser.parse_args().run
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{measured(run)}\n{END}{after}", encoding="utf-8")
    images = ROOT / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    for source, name in PICTURES.items():
        shutil.copyfile(run / source, images / name)
    print(f"{readme} and {images} hold the figures of {run}")


if __name__ == "__main__":
    main()
