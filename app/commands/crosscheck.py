"""Run every Flax module beside its PyTorch twin and print how far apart they are.

The twins are x-transformers, vector-quantize-pytorch and plain PyTorch; they get the world's own weights, and the same
inputs. A row differs when its largest difference, relative to the largest reference value, is above its tolerance.
Without a world the weights are random and the configurations several. Exit code 1 if a row differs.

examples:
  genie crosscheck
  genie crosscheck runs/demo
  genie crosscheck runs/demo --json > crosscheck.json
"""

import argparse
import json
import sys
import warnings

from train.errors import UserError

NAME = "crosscheck"
HELP = "every JAX module against its PyTorch twin"
TWINS = ("x_transformers", "vector_quantize_pytorch")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "world", nargs="?", metavar="WORLD", help="a world, or the run of one (default: random weights)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of inputs and random weights (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Compare, print, and say by the exit code whether all is equal."""
    from app.worlds import load_world, user_error

    if args.seed < 0:
        raise UserError(f"--seed {args.seed}", "is below 0", "give a whole number from 0 on")
    world = None if args.world is None else load_world(args.world, "cpu")
    try:
        with warnings.catch_warnings():  # of the packages to their own authors
            warnings.simplefilter("ignore", FutureWarning)
            from torch_bridge.crosscheck.suite import crosscheck
    except ModuleNotFoundError as error:
        if error.name not in TWINS:
            raise
        remedy = "install them: pip install 'efficient-genie[crosscheck]'"
        raise UserError(
            "genie crosscheck", f"the packages to compare with are missing ({error.name})", remedy
        ) from error

    def tell(what: str) -> None:
        print(f"checking: {what}", file=sys.stderr)

    try:
        report = crosscheck(world, seed=args.seed, tell=tell)
    except ValueError as error:  # a world that the twins cannot be built for
        raise user_error(str(args.world), error) from error
    if args.json:
        print(json.dumps(report.to_json(), indent=1, allow_nan=False))
    else:
        print(report.table())
        wrong = [row.module for row in report.rows if not row.passed]
        first = f"; the first is {wrong[0]}" if wrong else ""
        print(f"\n{len(report.rows) - len(wrong)} of {len(report.rows)} equal{first}")
        print(", ".join(f"{name} {number}" for name, number in report.versions.items()))
    return 0 if report.passed else 1
