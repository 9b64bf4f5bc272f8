"""Run every benchmark, one after another, each in a process of its own, and gather the results in one file.

    python benchmarks/run_all.py                   what `make bench` does: benchmarks/results/cpu.json
    python benchmarks/run_all.py --device cuda     what `make bench-gpu` does: benchmarks/results/gpu.json

The file is `{machine, quick, device, date, results: {name: what the script wrote}, failed: {name: last lines}}`; it is
written after every benchmark, so that one that fails or an interruption loses nothing before it. Scripts that this
copy of the program has not are left out. Exit 1 where any failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from machine import describe

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


class Script(NamedTuple):
    """What a script takes: `--device`, or it measures on the CPU alone; the words of a smoke run."""

    device: bool = True
    quick: tuple[str, ...] = ("--quick",)


SCRIPTS = {  # in the order of the table
    "play_step": Script(device=False),
    "play_page": Script(device=False, quick=("--seconds", "3", "--preset", "debug")),
    "dynamics_training": Script(),
    "cached_step": Script(),
    "quantizer": Script(),
    "bridge": Script(),
    "ingest": Script(device=False),
    "loader": Script(),
}
LINES = 20  # of a failure's output that are kept


def run(name: str, words: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """What a script wrote, or None and the last lines of what it said."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / f"{name}.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "-o", str(output), *words]
        # Scripts of the benchmarks import one another by their names and the program from the root.
        path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(done.stdout, flush=True)
        if done.returncode or not output.is_file():
            return None, "\n".join(done.stdout.splitlines()[-LINES:])
        return json.loads(output.read_text(encoding="utf-8")), ""


def wanted(names: Sequence[str], device: str) -> list[str]:
    """The scripts to run, in order: those that are there and, on a GPU, those that measure there."""
    there = [name for name in SCRIPTS if (HERE / f"{name}.py").is_file()]
    return [name for name in there if (not names or name in names) and (device == "cpu" or SCRIPTS[name].device)]


def others_of(output: Path, now: dict[str, Any]) -> dict[str, Any]:
    """What a file has of other scripts, if it is of this machine, its versions and this day."""
    if not output.is_file():
        return {}
    before = json.loads(output.read_text(encoding="utf-8"))
    alike = all(before.get(key) == now[key] for key in ("machine", "quick", "device", "date"))
    return {key: before[key] for key in ("results", "failed")} if alike else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="default: benchmarks/results/cpu.json, gpu.json on a GPU")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, few rounds: shows that all of it runs")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(SCRIPTS),
        default=[],
        help="these alone; of the others the file keeps what is of today",
    )
    options = parser.parse_args()
    output = options.output or RESULTS / ("cpu.json" if options.device == "cpu" else "gpu.json")
    gathered: dict[str, Any] = {"machine": describe(), "quick": options.quick, "device": options.device}
    gathered |= {"date": gathered["machine"]["date"], "results": {}, "failed": {}}
    gathered |= others_of(output, gathered) if options.only else {}
    for name in wanted(options.only, options.device):
        print(f"== {name}", flush=True)
        script = SCRIPTS[name]
        words = [*(script.quick if options.quick else ()), *(["--device", options.device] if script.device else ())]
        result, said = run(name, words)
        for kept in ("results", "failed"):
            gathered[kept].pop(name, None)
        if result is None:
            gathered["failed"][name] = said
        else:
            gathered["results"][name] = result
        gathered["results"] = {one: gathered["results"][one] for one in SCRIPTS if one in gathered["results"]}
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(gathered, indent=1) + "\n", encoding="utf-8")
    print(f"{output}: {len(gathered['results'])} benchmarks, failed: {', '.join(gathered['failed']) or 'none'}")
    if gathered["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
