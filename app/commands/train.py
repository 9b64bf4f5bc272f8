"""Train a world: from videos, or from a folder of frames, through every stage to a bundle that can be played.

The same --run continues where it stopped and skips what is finished. Every field of the config is an option by its
dotted path; changing one reruns its stage and what depends on it. `--config` lists them all.

examples:
  genie train game.mp4 --run runs/game --minutes 60
  genie train game.mp4 --run runs/game --preset laptop --fps 10 --dynamics.model.layers 6
  genie train --frames frames/all --run runs/all --preset gpu --device cuda
  genie train game.mp4 --run runs/game --actions game.npz --actions.labels 0.025   a few labels name the actions
  genie train game.mp4 --run runs/game --recipe tuned                    the whole chain, from a StyleGAN2 teacher on
  genie train game.mp4 --run runs/game --encoder.codes 0.1 --drift.codes 0.1     w has to name the actions
  genie train --run runs/game                     continue
  genie train --run runs/game --minutes 120       an hour more: what the time had ended goes on
"""

import argparse
import math
from pathlib import Path

from app.commands.devices import add_device_option, check_kind
from app.parser import OneLineParser
from train.errors import UserError

NAME = "train"
HELP = "videos to a world; the same --run continues"
LABEL_OPTIONS = ("actions.labels", "actions.label_batch", "actions.model.label_weight")


def configure(parser: OneLineParser) -> None:
    """Add the command's options."""
    parser.usage = "genie train [VIDEO... | --frames FRAMES] --run RUN [options] [--KEY VALUE]..."
    parser.add_argument("inputs", nargs="*", type=Path, metavar="VIDEO", help="video, folder of videos, of images")
    parser.add_argument("--frames", type=Path, help="folder that genie prepare wrote, instead of videos")
    parser.add_argument(
        "--actions",
        type=Path,
        metavar="A.npz",
        help="true actions of the video, below 0 where unknown: they align and name the codes; none: drop",
    )
    parser.add_argument("--run", type=Path, required=True, dest="folder", metavar="RUN", help="folder of the training")
    parser.add_argument("--preset", metavar="debug|tiny|laptop|gpu", help="sizes and lengths (default: tiny)")
    parser.add_argument("--minutes", type=minutes, metavar="M", help="time for everything, in all; none: no limit")
    parser.add_argument("--config", action="store_true", help="print every option with its value, and end")
    add_device_option(parser)
    parser.takes_overrides = True


def minutes(text: str) -> float:
    """Minutes as they are written; "none" is infinity."""
    return math.inf if text == "none" else float(text)


def run(args: argparse.Namespace) -> int:
    """Train, or continue."""
    if args.minutes is not None and not args.minutes > 0:  # not a number is no time either
        raise UserError(f"--minutes {args.minutes:g}", "is no time", "give a positive number")
    if args.inputs and args.frames:
        raise UserError("--frames", "was given beside videos", "give one or the other")
    check_kind(args.device)
    from train.config import override_config
    from train.overrides import fields
    from train.pipeline import train_run
    from train.presets import configured
    from train.run import Run
    from train.source import Source

    record = Run(args.folder)
    config = override_config(configured(record, args.preset), args.overrides, args.options)
    if args.config:
        for path, value in fields(config).items():
            print(f"--{path} {value}")
        return 0
    source = Source.given(args.inputs, args.frames, record, args.actions)
    if source.actions is None and (idle := sorted(set(args.overrides) & set(LABEL_OPTIONS))):
        raise UserError(f"--{idle[0]}", "there are no true actions to use", "give --actions A.npz too")
    train_run(source, record, config, minutes=args.minutes, device=args.device, log=print)
    return 0
