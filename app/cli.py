"""The `genie` command: a subcommand a module in `app/commands`, errors in one line, exit codes that say what happened.

Exit 0 on success, 2 on bad input (one line on standard error that names the input, the fault and the remedy), 130 on
Ctrl-C or SIGTERM. Heavy frameworks are imported by the commands when they run, so that help is there at once.
"""

import argparse
import importlib
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType, ModuleType
from typing import NoReturn

from app.parser import OneLineParser
from train.errors import UserError

COMMANDS = (
    "prepare",
    "train",
    "play",
    "rollout",
    "evaluate",
    "compare",
    "inspect",
    "crosscheck",
    "import",
    "export-weights",
    "devices",
)
MODULES = {"import": "import_weights", "export-weights": "export_weights"}  # of commands that are no names of modules
EXAMPLES = """examples:
  genie rollout -o film.mp4                                a film of the bundled world
  genie train my_video.mp4 --run runs/mine --minutes 60    from a video to a world, in an hour
  genie train --run runs/mine                              continue where it stopped
  genie rollout runs/mine --actions random -o film.mp4     a film of it
  genie inspect runs/mine                                  what each of its actions does
  genie devices                                            what would run where
"""


def commands() -> dict[str, ModuleType]:
    """The module of each command."""
    return {name: importlib.import_module(f"app.commands.{MODULES.get(name, name)}") for name in COMMANDS}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = OneLineParser(
        prog="genie",
        description="Any video in, a world you can play out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"genie {version('efficient-genie')}")
    groups = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in commands().items():
        form = argparse.RawDescriptionHelpFormatter
        below = groups.add_parser(
            name, help=module.HELP, description=module.__doc__, formatter_class=form, allow_abbrev=False
        )
        module.configure(below)
        below.add_argument("--debug", action="store_true", help="show the traceback of an error")
        below.set_defaults(run=module.run)
    return parser


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        parser = build_parser()
        args, rest = parser.parse_known_args(words)
        if rest:
            said = " ".join(filter(None, ("genie", args.command)))
            raise UserError(f"{said} {rest[0]}", "is not understood", f"see {said} --help")
        if args.command is None:
            parser.print_help()
            return 0
        args.command_line = shlex.join(["genie", *words])
        return args.run(args)
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"genie: {error}".replace("\n", " "), file=sys.stderr)
        return 2
    except (
        OSError
    ) as error:  # a full disk, a forbidden folder, a file where a folder should be: not the program's fault
        if debug:
            traceback.print_exc()
        subject = error.filename or "a file"
        print(f"genie: {subject}: {error.strerror or error}. Check path, permissions and free space.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("genie: interrupted", file=sys.stderr)
        return 130
    except SystemExit as ending:  # argparse leaves so after --help
        return int(ending.code or 0)
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
