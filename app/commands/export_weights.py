"""Write a run's networks in the files of the published code, or each as safetensors.

rosinality is one file for StyleGAN2: the averaged generator (g_ema), the discriminator (d) and the mean of w
(latent_avg). safetensors is one file a network, its config in the metadata: the dynamics in the names of
x-transformers, the quantiser in those of vector-quantize-pytorch, the others in their own. WORLD gives the networks
that a world holds.

examples:
  genie export-weights runs/mine --to rosinality -o mine.pt
  genie export-weights runs/mine --to safetensors -o weights/
  genie import stylegan2 mine.pt --run runs/next                    and back
"""

import argparse
from pathlib import Path

from train.errors import UserError

NAME = "export-weights"
HELP = "a run's networks as files that the published code reads"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", metavar="RUN|WORLD", type=Path, help="folder of a run, or of a world")
    parser.add_argument("--to", required=True, metavar="rosinality|safetensors", help="the form to write")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE|FOLDER", help="where to (default: stylegan2.pt, or weights/, in RUN)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the files."""
    from app.worlds import is_bundled
    from train.export_weights import export_weights

    if args.out is None and is_bundled(args.source):
        raise UserError(args.source, "nothing is written into the bundled world", "Give -o")
    export_weights(args.source, args.to, args.out, log=print)
    return 0
