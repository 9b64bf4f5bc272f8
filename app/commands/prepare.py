"""Turn videos, folders of videos or folders of images into a folder of frames.

examples:
  genie prepare game.mp4 --out frames/game
  genie prepare recordings/ more.mkv --out frames/all --fps 10 --size 128 --crop fit
  genie train --frames frames/all --run runs/all
"""

import argparse
from pathlib import Path

from train.errors import UserError

NAME = "prepare"
HELP = "videos to a folder of frames"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="VIDEO", help="video, folder of videos, of images")
    parser.add_argument("--out", type=Path, required=True, metavar="FRAMES", help="folder to write")
    parser.add_argument("--fps", type=float, help="highest frame rate (default: 15)")
    parser.add_argument("--size", type=int, help="side of the square frames in pixels (default: 64)")
    parser.add_argument("--crop", help="center, fit, or x,y,w,h in pixels of the video (default: center)")
    parser.add_argument("--no-letterbox", action="store_true", help="keep black bars")
    parser.add_argument("--no-cuts", action="store_true", help="do not look for cuts: each video is one shot")
    parser.add_argument("--lossless", action="store_true", help="PNG instead of JPEG")
    parser.add_argument("--duplicates-seconds", type=float, help="of a standing picture that are kept (default: 1)")
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Write the folder and the report."""
    from train.ingest.config import IngestConfig
    from train.ingest.prepare import prepare

    names = ("fps", "size", "crop", "duplicates_seconds")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config = IngestConfig(
        letterbox=not args.no_letterbox, detect_cuts=not args.no_cuts, lossless=args.lossless, **given
    )
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}", "is no number of processes", "give 1 or more")
    prepare(args.inputs, args.out, config, workers=args.workers)
    print(f"train on it: genie train --frames {args.out} --run RUN")
    return 0
