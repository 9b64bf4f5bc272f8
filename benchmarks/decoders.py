"""Train the tokenizer alone (teacher to drift) by several recipes, each for the same time, and write the table.

    python benchmarks/decoders.py --frames frames/room --video room_heldout.mp4 --minutes 6 -o runs/decoders
    python benchmarks/decoders.py runs/room --video room_heldout.mp4 --minutes 6 -o runs/decoders --only tuned,joint-map
    python benchmarks/decoders.py --frames frames/room --video room_heldout.mp4 --minutes 6 -o runs/decoders \\
        --encoder.adversarial_every 2                  # options of the config, for every variant

First the recipes, each with one row of w; then the best of them by PSNR with a row for every layer (W+) and with a
spatial map. `--all` has W+ and map of every recipe, `--only` names the variants. What is there already is not done
again: start the same command to go on; with more --minutes every variant goes on training. Writes OUT/table.md,
OUT/table.json and OUT/strips.png. Each variant has a run of its own in OUT/runs, teacher included.
"""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from commands import prepared
from decoders_table import best, measure, measured_with, write_strips, write_table

from app.parser import OneLineParser
from train.config import Config, override_config
from train.errors import UserError
from train.ingest.store import Manifest
from train.overrides import to_json
from train.pipeline import train_run
from train.presets import configured
from train.run import Run
from train.source import Source

LAST_STAGE = "drift"
LEAST_MAP = 8  # channels, where that many fill whole rows of w
PLAIN_JOINT = {"recipe": "joint", "encoder.adversarial": "0"}
JOINT = {"recipe": "joint", "encoder.adversarial": "0.02", "encoder.adversarial_from": "0"}


@dataclass(frozen=True)
class Variant:
    """One row of the table: in words, and the options of the config that make it."""

    what: str
    options: Mapping[str, str] = field(default_factory=dict)


RECIPES = {
    "frozen": Variant("the seed's recipe: encoder through the distilled student", {"recipe": "frozen"}),
    "tuned": Variant("student tuned with the encoder", {"recipe": "tuned"}),
    "joint": Variant("no teacher: student, encoder, discriminator from the start", JOINT),
    "plain": Variant("no teacher: student and encoder, no discriminator", PLAIN_JOINT),
}


def with_latents(name: str, spatial: int) -> dict[str, Variant]:
    """A recipe with other latents: a row of w for every layer, and a map of `spatial` channels."""
    recipe = RECIPES[name]
    return {
        f"{name}-w+": Variant(f"{recipe.what}; W+", {**recipe.options, "w_plus": "true"}),
        f"{name}-map": Variant(
            f"{recipe.what}; {spatial} channels at 4x4", {**recipe.options, "spatial": str(spatial)}
        ),
    }


def main() -> int:
    """Train and measure what is missing; write the table after each."""
    try:
        return _main(parse())
    except UserError as error:
        print(f"decoders: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("decoders: interrupted; the same command goes on", file=sys.stderr)
        return 130


def _main(args: Namespace) -> int:
    names = [*RECIPES, *(key for name in RECIPES for key in with_latents(name, LEAST_MAP))]
    chosen = list(names if args.all else RECIPES) if args.only is None else args.only.split(",")
    if unknown := [name for name in chosen if name not in names]:
        raise UserError(f"--only {','.join(unknown)}", "there is no such variant", f"choose of {', '.join(names)}")
    config, frames = base(args)
    width = override_config(config, args.overrides, args.options).style_dim
    spatial = least_map(width) if args.spatial is None else args.spatial
    grid = dict(RECIPES) | {key: one for name in RECIPES for key, one in with_latents(name, spatial).items()}
    changed = {name: override_config(config, {**grid[name].options, **args.overrides}, args.options) for name in grid}
    heldout = prepared(args.video, args.out / "heldout", replace(config.ingest, fps=Manifest.load(frames).fps))
    words = {name: variant.what for name, variant in grid.items()}

    def bring_up_to_date(name: str) -> None:
        for seed in map(int, args.seeds.split(",")):
            variant = override_config(changed[name], {"seed": str(seed)})
            place = args.out / "measured" / f"{name}-{seed}.json"
            asked = {"minutes": args.minutes, "count": args.count, "config": to_json(variant)}
            if not measured_with(place, asked):
                print(f"== {name}, seed {seed}", flush=True)
                run = Run(args.out / "runs" / f"{name}-{seed}")
                source = Source(frames=frames.resolve())
                train_run(source, run, variant, minutes=args.minutes, device=args.device, until=LAST_STAGE)
                measure(run, variant, heldout, frames, place, asked)
            write_table(args.out, words)
            write_strips(args.out, words, heldout)

    for name in chosen:
        bring_up_to_date(name)
    if args.only is None and not args.all:
        for name in with_latents(best(args.out, RECIPES), spatial):
            bring_up_to_date(name)
    print((args.out / "table.md").read_text(encoding="utf-8"))
    return 0


def parse() -> Namespace:
    """The command line; what it does not know are options of the config, for every variant."""
    parser = OneLineParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.takes_overrides = True
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run whose config and frames are taken")
    parser.add_argument("--frames", type=Path, help="folder that genie prepare wrote, in place of the run's")
    parser.add_argument("--preset", help="without a run, or in place of its config (default: tiny)")
    parser.add_argument("--video", type=Path, required=True, help="a video that is not among the frames")
    parser.add_argument("--minutes", type=float, default=6.0, help="of training for each variant (default: 6)")
    parser.add_argument("--seeds", default="0", help="as 0,1,2 (default: 0)")
    parser.add_argument("--only", metavar="NAMES", help="some of frozen,tuned,joint,plain, each also with -w+ or -map")
    parser.add_argument("--all", action="store_true", help="W+ and map of every recipe, not of the best alone")
    parser.add_argument("--spatial", type=int, metavar="S", help="channels of the map (default: the least, 8 or more)")
    parser.add_argument("--count", type=int, default=512, help="held-out frames that are measured (default: 512)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder of the runs and the table")
    args = parser.parse_args(sys.argv[1:])
    if not args.minutes > 0:
        raise UserError(f"--minutes {args.minutes:g}", "is no time", "give a positive number")
    return args


def base(args: Namespace) -> tuple[Config, Path]:
    """The config that the variants change, at the size of the frames; and the folder of frames."""
    if args.run is None and args.frames is None:
        raise UserError("decoders", "there are no frames to train on", "give a RUN, or --frames FRAMES")
    if args.run is not None and not (args.run / "run.json").is_file():
        raise UserError(args.run, "is no run", "give the folder of one, or leave it out")
    run = Run(args.out if args.run is None else args.run)
    source = Source.given((), args.frames, run)
    frames = source.folder(run)
    config = configured(run, args.preset)
    size = Manifest.load(frames).size
    plain = {"w_plus": "false", "spatial": "0"}  # whatever the run has
    return override_config(config, plain | ({} if config.size == size else {"size": str(size)})), frames


def least_map(style_dim: int) -> int:
    """The least number of channels from `LEAST_MAP` on that fill whole rows of w."""
    spatial = LEAST_MAP
    while 16 * spatial % style_dim:
        spatial += 1
    return spatial


if __name__ == "__main__":
    sys.exit(main())
