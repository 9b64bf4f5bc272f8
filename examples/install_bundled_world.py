"""Put the world of a run into the package as the bundled one, with the figures of its evaluation.

    python examples/install_bundled_world.py runs/bundled runs/bundled/evaluation

Copies the world, adds `metrics.json` and writes a README: the table of the evaluation, versions and machine, and
`make_bundled_world.sh`, the commands that made it. No figure is typed by hand. Refuses a world that was not the one
evaluated, that is larger than 12 MB, or whose files tell paths of this machine.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from app.worlds import BUNDLED
from torch_bridge.bundle import MANIFEST, PARTS, locate_world, read_world
from torch_bridge.manifest import WorldManifest
from train.errors import UserError
from train.evaluate.files import METRICS, locate_metrics, read_metrics
from train.evaluate.table import format_table
from train.run import Run

LIMIT = 12_000_000  # bytes of the whole folder
LOCAL = re.compile(r"""(^|[\s='"(])(/[^\s/]+/|[A-Za-z]:\\)""")  # an absolute path
SCRIPT = Path(__file__).with_name("make_bundled_world.sh")


def install(run: Path, evaluation: Path, place: Path = BUNDLED, limit: int = LIMIT) -> int:
    """Write the folder `place`, in place of the one that is there; returns its size in bytes.

    Args:
        run: the finished run that holds the world.
        evaluation: of that world, by `genie evaluate`.

    Raises:
        UserError: one of the refusals above.
        ValueError: the world is damaged or missing.
    """
    world = locate_world(run)
    manifest, _, prompts = read_world(world)  # checks every digest
    file = locate_metrics(evaluation)
    metrics = read_metrics(file)
    if metrics.get("world", {}).get("sha256") != manifest.sha256:
        raise UserError(file, "it is the evaluation of another world", f"Evaluate this one: genie evaluate {run}")
    for tree, where in ((json.loads(manifest.to_json()), world / MANIFEST), (metrics, file)):
        for text in strings(tree):
            if LOCAL.search(text):
                raise UserError(where, f"it tells a path of this machine: {text}", "Make it with relative paths")
    stages = Run(run).stages
    if not stages:
        raise UserError(run, "it is no run, so that nothing tells how long it was trained", "Give the run of the world")
    if not prompts:
        raise UserError(world, "it has no prompt to start from", "Pack it anew with 'genie train'")
    beside = place.with_name(f".{place.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / "prompts").mkdir(parents=True)
    try:
        parts, clips = [f"{part}.safetensors" for part in PARTS], [f"prompts/{name}.png" for name in prompts]
        for name in (MANIFEST, *parts, *clips):
            shutil.copyfile(world / name, beside / name)
        shutil.copyfile(file, beside / METRICS)
        seconds = sum(stage.seconds for stage in stages.values())
        (beside / "README.md").write_text(readme(place.name, manifest, metrics, seconds), encoding="utf-8")
        size = sum(file.stat().st_size for file in beside.rglob("*") if file.is_file())
        if size > limit:
            fault = f"{size / 1e6:.1f} MB are more than the {limit / 1e6:.1f} MB that a package shall carry"
            raise UserError(world, fault, "Train a smaller one")
        shutil.rmtree(place, ignore_errors=True)
        beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return size


def strings(tree: object) -> Iterator[str]:
    """Every string among the values of a tree of JSON."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for below in tree.values() if isinstance(tree, dict) else tree:
            yield from strings(below)


def readme(name: str, manifest: WorldManifest, metrics: dict, seconds: float) -> str:
    """The page beside the world."""
    made, versions = metrics["made"], manifest.provenance.versions
    size = f"{manifest.size}x{manifest.size}"
    lines = [
        f"# The bundled world `{name}`",
        "",
        "What `genie rollout`, `genie inspect` and `genie evaluate` use when no world is named. This page is written",
        "by `examples/install_bundled_world.py`.",
        "",
        f"Frames of {size} at {manifest.fps:.4g} a second, {len(manifest.codes)} latent actions, learned from "
        f"{', '.join(manifest.provenance.sources)} in {seconds / 60:.1f} minutes of training.",
        f"Trained with {', '.join(f'{key} {value}' for key, value in versions.items())}.",
        "The footage is ViZDoom's, recorded by `examples/record_vizdoom.py`; its pictures are those of Freedoom (BSD",
        "licence), which the `vizdoom` package ships.",
        "",
        "## Measured",
        "",
        f"`{made['command']}`, {made['date']}, {made['machine']}. Intervals and the rest: `{METRICS}`, explained in",
        "`docs/metrics.md`.",
        "",
        "```",
        format_table(metrics).strip("\n"),
        "```",
        "",
        f"## Made by `examples/{SCRIPT.name}`",
        "",
        "```bash",
        SCRIPT.read_text(encoding="utf-8").strip("\n"),
        "```",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="the finished run")
    parser.add_argument("evaluation", type=Path, metavar="EVALUATION", help="folder of its evaluation")
    args = parser.parse_args()
    try:
        size = install(args.run, args.evaluation)
    except (UserError, ValueError) as error:
        sys.exit(str(error))
    print(f"{BUNDLED}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
