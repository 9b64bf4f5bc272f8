"""Bring published weights into a run, in the place of training a stage; `genie train` goes on from there.

stylegan2 is a file of rosinality's trainer or converter, or a bare state_dict: the teacher.
mobile-stylegan is a Lightning file (teacher and student), the two files of a teacher together, or a student's
state_dict, whose teacher the run must have. Sizes are read from the tensors; every parameter must be there.

examples:
  genie import stylegan2 550000.pt --run runs/faces --preset laptop
  genie train faces.mp4 --run runs/faces                            goes on with the student
  genie import mobile-stylegan last.ckpt --run runs/faces --replace
  genie import mobile-stylegan mnet.ckpt snet.ckpt --run runs/other
"""

import argparse
from pathlib import Path

from app.parser import OneLineParser

NAME = "import"
HELP = "published weights into a run, in the place of training a stage"


def configure(parser: OneLineParser) -> None:
    """Add the command's options."""
    parser.usage = "genie import stylegan2|mobile-stylegan FILE... --run RUN [options] [--KEY VALUE]..."
    parser.add_argument("kind", metavar="stylegan2|mobile-stylegan", help="what the file is")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".pt, .ckpt or .safetensors")
    parser.add_argument("--run", type=Path, required=True, dest="folder", metavar="RUN", help="folder of the training")
    parser.add_argument("--preset", metavar="debug|tiny|laptop|gpu", help="for all that the file does not decide")
    parser.add_argument("--replace", action="store_true", help="take the place of what the run already has")
    parser.takes_overrides = True


def run(args: argparse.Namespace) -> int:
    """Read, check, write."""
    from train.imports import import_weights
    from train.run import Run

    import_weights(
        args.kind,
        args.files,
        Run(args.folder),
        preset=args.preset,
        overrides=args.overrides,
        options=args.options,
        replace=args.replace,
        log=print,
    )
    print(f"train on: genie train VIDEO --run {args.folder}")
    return 0
