"""Put the benchmarks' results into the README, with the machine and the date: no figure of that part is typed by hand.

    python benchmarks/table.py benchmarks/results/cpu.json [benchmarks/results/gpu.json] [--readme README.md] [--print]

Fills the part between the marks `bench:begin` and `bench:end`.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rows import table

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
APART = ("machine", "benchmark", "title", "quick", "device", "date")  # of a result: what is no figure


def markdown(gathered: dict[str, Any]) -> str:
    """What `run_all.py` wrote, as Markdown: the machine, then a table for each benchmark."""
    lines = [f"{hardware(gathered)}. Medians, quartiles in brackets; ratio: the other's figure over ours.", ""]
    if gathered["quick"]:
        lines += ["Smallest sizes, few rounds: these figures show that the benchmarks run, and nothing else.", ""]
    for name, result in gathered["results"].items():
        lines += [f"**{result.get('title', name)}**", ""]
        lines += table(result["rows"]) if "rows" in result else figures(result)
        lines.append("")
    for name in gathered["failed"]:
        lines += [f"**{name}** failed and has no figures.", ""]
    return "\n".join(lines).rstrip()


def hardware(gathered: dict[str, Any]) -> str:
    """The machine in one line."""
    machine, versions = gathered["machine"], gathered["machine"]["versions"]
    place = machine["gpu"] if gathered["device"] == "cuda" else f"{machine['cpu']}, {machine['cores']} cores"
    packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", "torch", "x-transformers") if name in versions)
    return f"{place}, {machine['memory_gib']:g} GiB, Python {machine['python']}, {packages}, {gathered['date']}"


def figures(result: dict[str, Any]) -> list[str]:
    """Lines of a table of every number in a result that is not made of rows, by its dotted path."""
    found = [f"| {path} | {value:.4g} |" for path, value in leaves({k: v for k, v in result.items() if k not in APART})]
    return ["| | measured |", "|---|---|", *found] if found else []


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of nested mappings and lists with their dotted paths."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield path, tree


def filled(readme: str, part: str) -> str:
    """The README with `part` between the marks.

    Raises:
        ValueError: the marks are not there once each, in order.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"the marks {BEGIN} and {END} must be there once each, in this order")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{part}\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="files of run_all.py, in the order of the tables")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file with the marks")
    parser.add_argument("--print", action="store_true", help="print the part and change no file")
    options = parser.parse_args()
    part = "\n\n".join(markdown(json.loads(path.read_text(encoding="utf-8"))) for path in options.results)
    if options.print:
        print(part)
        return
    try:
        text = filled(options.readme.read_text(encoding="utf-8"), part)
    except ValueError as error:
        sys.exit(f"{options.readme}: {error}")
    options.readme.write_text(text, encoding="utf-8")
    print(f"{options.readme} holds the figures of {', '.join(map(str, options.results))}")


if __name__ == "__main__":
    main()
