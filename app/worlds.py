"""A world for a command: the one that was named, or the bundled one; faults become the one line that a person sees.

The bundled world is package data, `app/bundled/NAME/`: a world's folder with the `metrics.json` of its evaluation and a
README beside its files. `examples/make_bundled_world.sh` makes it. Commands read it and never write into it.
"""

import sys
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands.devices import check_kind
from train.errors import UserError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from torch_bridge.manifest import WorldManifest
    from torch_bridge.world import World

RUNTIME_WORDS = ("eager", "onnx", "openvino", "openvino-int8", "compile", "auto", "measure")
WEIGHTS_WORDS = ("float32", "float16", "auto", "measure")
BUNDLED = Path(__file__).with_name("bundled") / "doom"


def choose_world(named: "str | PathLike[str] | None") -> Path:
    """The path that was named; where none was, the bundled world's, which is told on standard error.

    Raises:
        UserError: none was named, and the package holds none.
    """
    if named is not None:
        return Path(named)
    if not (BUNDLED / "world.json").is_file():
        remedy = "Name a world, or make one: genie train VIDEO --run runs/mine"
        raise UserError("WORLD", "none is named, and this installation holds no bundled one", remedy)
    print(f"no world named: using the bundled world {BUNDLED.name} ({BUNDLED})", file=sys.stderr)
    return BUNDLED


def find_world(
    named: "str | PathLike[str] | None", videos: "Sequence[Path] | None" = None
) -> "tuple[Path, WorldManifest]":
    """The folder and the manifest of the world that was named, or of the bundled one.

    Args:
        named: as `choose_world` takes it.
        videos: of the command, among which a world that was meant to be named may stand.

    Raises:
        UserError: there is no such world, its manifest cannot be read, or a video is a world.
    """
    from torch_bridge.bundle import MANIFEST, locate_world, read_manifest

    for video in (videos or []) if named is None else []:
        if any((folder / MANIFEST).is_file() for folder in (video, video / "world")):
            raise UserError(video, "it is a world, and stands where videos do", "Name the world before --video")
    path = choose_world(named)
    try:
        folder = locate_world(path)
        return folder, read_manifest(folder)
    except ValueError as error:
        raise user_error(str(path), error) from error


def is_bundled(world: Path) -> bool:
    """Whether a folder is the bundled world, which is only read."""
    return world.resolve() == BUNDLED.resolve()


def results_folder(world: Path, kind: str) -> Path:
    """Where results of a kind ("evaluation") go by default: beside the world; of the bundled one, where one works."""
    from train.evaluate.files import evaluation_folder

    return evaluation_folder(Path(world.name) if is_bundled(world) else world, kind)


def load_world(
    path: "str | PathLike[str]", device: str = "auto", runtime: str = "eager", weights: str = "float32"
) -> "World":
    """The world of a folder, or of the run in a folder, on the device of a `--device`.

    Args:
        runtime, weights: of `--runtime` and `--weights`: see `World.use_runtime`, `World.use_weights`.

    Raises:
        UserError: there is no such world, it is damaged or newer than this program, there is no such device, or this
            machine cannot run the runtime, or cannot use the weights so.
    """
    check_kind(device)
    from torch_bridge.world import World
    from train.devices import choose_devices

    choose_devices(device)
    try:
        world = World.load(path, device=device)
    except ValueError as error:
        raise user_error(str(path), error, "Update this program, or pack the world anew with 'genie train'.") from error
    except OSError as error:
        raise UserError(path, f"it cannot be read ({error.strerror or error})", "Check its permissions.") from error
    for option, word, usual, use in (
        ("--runtime", runtime, "eager", world.use_runtime),
        ("--weights", weights, "float32", world.use_weights),
    ):
        try:
            if word != usual:  # which it has
                use(word)
        except ValueError as error:
            raise user_error(f"{option} {word}", error) from error
    return world


def add_speed_options(parser: "argparse.ArgumentParser", *, runtime: str, weights: str) -> None:
    """The options of commands that play, and their defaults."""
    parser.add_argument(
        "--runtime",
        metavar="|".join(RUNTIME_WORDS),
        default=runtime,
        help="what draws and encodes frames; auto: the fastest, measured once on this machine and remembered; "
        f"measure: measured anew (default: {runtime})",
    )
    parser.add_argument(
        "--weights",
        metavar="|".join(WEIGHTS_WORDS),
        default=weights,
        help=f"in what precision the dynamics read their weights; auto and measure likewise (default: {weights})",
    )


def user_error(
    subject: str, error: ValueError, remedy_else: str = "Run the command with --help for what it takes."
) -> UserError:
    """The `UserError` of a lower layer's error, whose text is "fault[. Remedy]" or "/a/path: fault[. Remedy]"."""
    text = str(error)
    head, colon, rest = text.partition(": ")
    if colon and head.startswith(subject):
        subject, text = head, rest
    fault, dot, remedy = text.partition(". ")
    return UserError(subject, fault.rstrip("."), remedy if dot else remedy_else)
