"""Put several evaluations beside each other: a table with the best value of each row marked, and a page with curves.

Each A is a run, a world, the folder that 'genie evaluate' wrote, or a metrics.json.

examples:
  genie compare runs/first runs/second
  genie compare runs/first runs/second runs/third/evaluation -o thesis/compare.html
  genie compare a.json b.json --json > comparison.json
"""

import argparse
import json
import sys
from pathlib import Path

from train.errors import UserError

NAME = "compare"
HELP = "several evaluations beside each other"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("evaluations", metavar="A", nargs="+", help="a run, an evaluation's folder or a metrics.json")
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, help="the page (default: compare.html)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table; a page only with -o")


def run(args: argparse.Namespace) -> int:
    """Read, compare, print, write."""
    from train.evaluate.comparison import Subject, compare, differences, format_comparison, to_json
    from train.evaluate.files import locate_metrics, read_metrics
    from train.evaluate.report.beside import write_comparison

    if len(args.evaluations) < 2:
        raise UserError("genie compare", "one evaluation cannot be compared", "Name two or more")
    if args.out is not None and args.out.suffix.lower() not in (".html", ".htm"):
        raise UserError(args.out, "the page is written as .html", "Choose a name that ends so")
    subjects = [Subject(given, read_metrics(locate_metrics(given))) for given in args.evaluations]
    rows = compare(subjects)
    differ = differences(subjects)
    if differ:
        print(f"warning: not comparable as they stand, they differ in {'; '.join(differ)}", file=sys.stderr)
    print(
        json.dumps(to_json(subjects, rows), indent=1) + "\n" if args.json else format_comparison(subjects, rows), end=""
    )
    if args.out is not None or not args.json:
        out = args.out or Path("compare.html")
        write_comparison(out, subjects, rows)
        print(f"wrote {out}", file=sys.stderr)
    return 0
