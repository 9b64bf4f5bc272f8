"""Measure a world on frames that it has not seen: pictures, rollouts, control, actions, drift, speed, budget.

WORLD is a world's folder or the run that made it; without it the bundled world is measured. Writes report.html, which
opens anywhere, metrics.json, metrics.txt (also printed) and pictures.

examples:
  genie evaluate runs/mine --video another_recording.mp4
  genie evaluate runs/mine --video v.mp4 --only control,drift --far 1000
  genie evaluate runs/mine --frames runs/mine/frames --quick       the shots that the run held out
  genie evaluate runs/mine --video v.mp4 --actions v.npz --full    with the player's true actions
  genie evaluate runs/mine --video v.mp4 --only drift --i3d i3d_torchscript.pt      Frechet video distance
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.devices import add_device_option
from train.errors import UserError

if TYPE_CHECKING:
    from torch_bridge.manifest import WorldManifest
    from train.ingest.store import FrameStore

NAME = "evaluate"
HELP = "measure a world on held-out video"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "world", nargs="?", metavar="WORLD", type=Path, help="a world, or a run that holds one (default: the bundled)"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--video", metavar="V", nargs="+", type=Path, help="videos that the world has not seen")
    source.add_argument("--frames", type=Path, help="a folder that `genie prepare` made; of a run, its held-out shots")
    parser.add_argument("--actions", metavar="A.npz", type=Path, help="true actions: one int for each frame of a video")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder for the results (default: beside the world)")
    parser.add_argument("--clips", metavar="N", type=int, help="clips to roll out (default: 256, 64 with --quick)")
    parser.add_argument(
        "--steps", metavar="N", type=int, help="length of the rollouts (default: 64, less in short shots)"
    )
    parser.add_argument(
        "--far", metavar="N", type=int, help="last step at which drift is measured (default: 256, --full 1000)"
    )
    parser.add_argument("--only", metavar="NAMES", help="some of rollout,control,actions,drift,play (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default: 0)")
    parser.add_argument("--noise-level", type=float, metavar="X", help="context noise told to the dynamics")
    parser.add_argument("--clamp", type=float, metavar="X", help="cut off generated w beyond X standard deviations")
    parser.add_argument("--temperature", type=float, metavar="X", help="of a flow head's draws: 1 as learned, 0 none")
    parser.add_argument(
        "--reencode", type=int, metavar="N", help="go on from the encoded frame every N steps; 0: never"
    )
    parser.add_argument(
        "--i3d", metavar="FILE", type=Path,
        help="i3d_torchscript.pt of StyleGAN-V: Frechet video distance; a program, so take it from its authors",
    )  # fmt: skip
    parser.add_argument("--all-shots", action="store_true", help="use also shots that the world was trained on")
    add_device_option(parser)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a minute or two: fewer clips, no long rollouts")
    size.add_argument("--full", action="store_true", help="everything: rollouts of 1000 steps, trained classifiers")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the table."""
    from app.worlds import find_world, load_world, results_folder, user_error

    folder, manifest = find_world(args.world, args.video)
    out = args.out or results_folder(folder, "evaluation")
    if out.exists() and not out.is_dir():
        raise UserError(out, "a file is in the place of the folder", "Choose another --out")

    from train.evaluate import GROUPS, PICTURES, evaluate, load_actions
    from train.evaluate.heldout import choose_shots

    actions = None if args.actions is None else load_actions(args.actions)
    store = frames_to_evaluate(args, manifest, out)
    if actions is not None and len(store.sources) > 1:
        raise UserError(args.actions, "it belongs to one video, and several were given", "Evaluate them one by one")
    # Of the world and not of run.json, which may already tell of a training that goes on with another share.
    holdout = manifest.provenance.config.get("holdout")
    training = None if holdout is None else frames_of_run(folder.parent)
    chosen = choose_shots(store, training, holdout or 0.0, all_shots=args.all_shots)
    print(f"held out? {chosen.said}")
    world = load_world(str(folder), args.device)
    try:
        world.play_with(
            noise_level=args.noise_level,
            clamp=args.clamp,
            temperature=args.temperature,
            reencode_every=args.reencode,
        )
    except ValueError as error:
        raise user_error("--noise-level, --clamp, --temperature, --reencode", error) from error
    evaluate(
        world,
        store,
        out=out,
        actions=actions,
        shots=chosen.shots,
        heldout=chosen.said,
        mean_frame=chosen.mean_frame,
        world_path=folder,
        device=args.device,
        profile="quick" if args.quick else "full" if args.full else "normal",
        clips=args.clips,
        steps=args.steps,
        far=args.far,
        only=GROUPS if args.only is None else [name.strip() for name in args.only.split(",")],
        seed=args.seed,
        i3d=args.i3d,
        subject=", ".join(source.name for source in store.sources),
        command=args.command_line,
    )
    print()
    print((out / "metrics.txt").read_text(encoding="utf-8"))
    pictures = [f"{name}.png" for name in PICTURES if (out / f"{name}.png").exists()]
    print(f"wrote {out}/ report.html metrics.json metrics.txt {' '.join(pictures)}")
    return 0


def frames_to_evaluate(args: argparse.Namespace, manifest: "WorldManifest", out: Path) -> "FrameStore":
    """The prepared frames that were given, or the videos prepared as the world's own were, in `out/frames`."""
    from train.ingest.config import IngestConfig
    from train.ingest.prepare import prepare
    from train.ingest.store import FrameStore

    if args.frames is None:
        known = {field.name for field in dataclasses.fields(IngestConfig)}
        trained_with = manifest.provenance.config.get("ingest") or {}
        config = IngestConfig(**{name: value for name, value in trained_with.items() if name in known})
        config = dataclasses.replace(config, fps=manifest.fps, size=manifest.size)
        prepare(args.video, out / "frames", config)
    store = FrameStore(out / "frames" if args.frames is None else args.frames)
    if store.size != manifest.size:
        fault = f"its frames are {store.size} pixels high, the world's are {manifest.size}"
        raise UserError(args.frames, fault, f"Prepare them with --size {manifest.size}, or give --video")
    if abs(store.fps - manifest.fps) > 0.05 * manifest.fps:
        print(f"note: these frames come at {store.fps:.4g} a second, the world's at {manifest.fps:.4g}")
    return store


def frames_of_run(run_folder: Path) -> "FrameStore | None":
    """The frames that a run was trained on; None where the folder is no such run."""
    from train.ingest.store import MANIFEST, FrameStore
    from train.run import Run

    if not (run_folder / "run.json").is_file():
        return None
    run = Run(run_folder)
    given = run.settings.get("frames")
    places = [Path(given)] if isinstance(given, str) else []
    for place in (*places, run_folder / "frames"):
        if (place / MANIFEST).is_file():
            return FrameStore(place)
    return None
