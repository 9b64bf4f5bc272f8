"""What each latent action of a world does: pictures before and after, movement, effect, alarms; and names for them.

Holds every code for a few steps from all prompts of the world and, with --video, from clips of a video. Writes
inspect.png, inspect.html and inspect.json. Names and keys are stored in the world (and remembered by its run). Without
WORLD the bundled world is inspected; to name its actions, copy it.

examples:
  genie inspect                                                    the bundled world
  genie inspect runs/mine
  genie inspect runs/mine --video v.mp4 --actions v.npz            beside the player's true actions
  genie inspect runs/mine --name 3=left --key 3=a --name 4=right --key 4=d
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.commands.devices import add_device_option
from train.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from torch_bridge.world import World
    from train.inspection.truth import Coincidence

NAME = "inspect"
HELP = "what each latent action does; give actions names and keys"
TRANSITIONS = 20_000  # of a video, at most this many are set beside its true actions


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "world", nargs="?", metavar="WORLD", type=Path, help="a world, or a run that holds one (default: the bundled)"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--video", metavar="V", nargs="+", type=Path, help="clips of it are prompts too")
    source.add_argument("--frames", type=Path, help="in place of a video, a folder that `genie prepare` made")
    parser.add_argument(
        "--actions", metavar="A.npz", type=Path, help="true actions: one int for each frame of the video"
    )
    parser.add_argument("--clips", metavar="N", type=int, default=32, help="clips of the video (default: 32)")
    parser.add_argument("--steps", metavar="N", type=int, default=4, help="for which a code is held (default: 4)")
    parser.add_argument("--name", metavar="3=left", action="append", default=[], help="name a code; repeatable")
    parser.add_argument("--key", metavar="3=a", action="append", default=[], help="key of a code; repeatable")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument(
        "-o", "--out", metavar="FOLDER", type=Path, help="for the results (default: inspection, beside the world)"
    )
    add_device_option(parser)


def run(args: argparse.Namespace) -> int:
    """Name, inspect, write, print."""
    from app.worlds import find_world, is_bundled, load_world, results_folder
    from train.code_names import name_codes

    names, keys = by_number("--name", args.name), by_number("--key", args.key)
    folder, _ = find_world(args.world, args.video)
    out = args.out or results_folder(folder, "inspection")
    _check(args, out)
    if (names or keys) and is_bundled(folder):
        remedy = f"Copy it and name that: cp -r {folder} my_world"
        raise UserError("--name, --key", f"the bundled world {folder.name} is not changed", remedy)
    # With --json, standard output holds nothing else.
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
        if names or keys:
            name_codes(folder, names, keys)
            print(f"stored in {folder / 'world.json'}: {_told(names, 'name')}{_told(keys, 'key')}")
        world = load_world(str(folder), args.device)
        found, files = _inspect(world, _title(folder), args, out)
    from train.inspection import format_table

    print(json.dumps(found.to_json(), indent=1, allow_nan=False) if args.json else "\n" + format_table(found))
    if not args.json:
        print(f"wrote {out}/ {files}")
    return 0


def by_number(flag: str, given: list[str]) -> dict[int, str]:
    """`3=left` as {3: "left"}.

    Raises:
        UserError: it is not of that form, or names a code twice.
    """
    found: dict[int, str] = {}
    for text in given:
        number, equals, value = text.partition("=")
        if not equals or not number.strip().isdecimal() or not value:
            raise UserError(
                f"{flag} {text}", "it is not of the form CODE=VALUE", f"Write {flag} 3=a, with the code's number"
            )
        if int(number) in found:
            raise UserError(f"{flag} {text}", f"code {int(number)} is given twice", "Give each code once")
        found[int(number)] = value
    return found


class _Footage(NamedTuple):
    clips: "list[np.ndarray]"
    truth: "Coincidence | None"


def _inspect(world: "World", title: str, args: argparse.Namespace, out: Path) -> tuple:
    from train.inspection import inspect_world, write_inspection
    from train.inspection.report import FILES

    window = world.config.window
    prompts = [frames[-window:] for frames in world.prompts.values()]
    source, truth = f"{len(prompts)} of the world's own", None
    if args.video or args.frames:
        footage = _footage(world, args, out)
        source += f", {len(footage.clips)} of " + ", ".join(path.name for path in args.video or [args.frames])
        prompts, truth = prompts + footage.clips, footage.truth
    if not prompts:
        raise UserError(title, "this world has no prompt of its own", "Give --video")
    found, responses = inspect_world(
        world, world.codes, prompts, name=title, source=source, steps=args.steps, truth=truth
    )
    write_inspection(out, found, responses)
    return found, " ".join(FILES)


def _footage(world: "World", args: argparse.Namespace, out: Path) -> _Footage:
    """Clips of the video as prompts and, with true actions, what they say of the codes."""
    from app.commands.evaluate import frames_to_evaluate
    from train.evaluate import load_actions
    from train.evaluate.clips import choose_clips
    from train.evaluate.transitions import infer_transitions
    from train.evaluate.truth import actions_of_kept, split_at_cuts
    from train.inspection.truth import coincidence

    truth = None if args.actions is None else load_actions(args.actions)
    store = frames_to_evaluate(args, world.config, out)
    spans = [(int(a), int(b)) for a, b in store.shots]
    shares = None
    if truth is not None:
        if len(store.sources) > 1:
            raise UserError(args.actions, "it belongs to one video, and several were given", "Inspect them one by one")
        kept = actions_of_kept(store, truth)
        spans = split_at_cuts(store, spans, truth.cuts)
        first_N, codes_N, _ = infer_transitions(world, store, spans, TRANSITIONS, print)
        shares = coincidence(codes_N, kept[first_N], len(world.codes))
    subject = str((args.video or [args.frames])[0])
    chosen = choose_clips(store, spans, args.clips, prompt=world.config.window, subject=subject)
    clips = [frames[: chosen.prompt] for batch in chosen.batches() for frames in chosen.frames(batch)]
    return _Footage(clips, shares)


def _check(args: argparse.Namespace, out: Path) -> None:
    if args.steps < 1:
        raise UserError(f"--steps {args.steps}", "there is nothing to roll out", "Give at least 1")
    if args.clips < 1:
        raise UserError(f"--clips {args.clips}", "is no number of clips", "Give at least 1")
    if args.actions is not None and args.video is None and args.frames is None:
        raise UserError(f"--actions {args.actions}", "it belongs to a video", "Give --video too")
    if out.exists() and not out.is_dir():
        raise UserError(out, "a file is in the place of the folder", "Choose another -o")


def _title(folder: Path) -> str:
    """The world's name for people: that of its run, or of its folder."""
    whole = folder.absolute()
    return whole.parent.name if whole.name == "world" else whole.name


def _told(given: dict[int, str], what: str) -> str:
    return "".join(f"{what} of {number} is {value}. " for number, value in given.items())
