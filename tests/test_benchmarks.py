"""The benchmarks: each runs from end to end in its smallest sizes, and its figures reach the README unchanged."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# What each has to measure: a part of the case of one of its rows.
SCRIPTS = {
    "dynamics_training": "debug, 4 clips of 8, float32: tokens a second",
    "cached_step": "debug, 1 rollout",
    "quantizer": "8 codes of 32, 64 vectors",
    "bridge": "to_torch: cost of 1 MB over that of 1 KB",
    "ingest": "read a frame of made.mp4",
    "loader": "from the disk: share of waiting",
}


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _module(name: str) -> ModuleType:
    return __import__(name)


def _run(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    _module(name).main()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_runs_and_writes_positive_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(name, ["--quick", "-o", str(tmp_path / "out" / "it.json")], monkeypatch)
    printed, result = capsys.readouterr().out, json.loads((tmp_path / "out" / "it.json").read_text())
    assert (result["benchmark"], result["quick"], result["device"]) == (name, True, "cpu")
    assert {"cpu", "cores", "versions", "date"} <= set(result["machine"])
    assert any(SCRIPTS[name] in row["case"] for row in result["rows"])
    for row in result["rows"]:
        assert row["value"] > 0 or "waiting" in row["case"]
        if row["against"]:
            assert row["low"] <= row["value"] <= row["high"]
            assert row["ratio"] == pytest.approx(row["other"] / row["value"])
        assert (row["holds"] is None) == (row["goal"] == "")
        assert row["case"] in printed


def test_goals_are_judged_by_the_ratio_of_medians_and_by_limits() -> None:
    rows, timing = _module("rows"), _module("timing")
    ours, theirs = timing.Times.of([1.0, 2.0, 3.0]), timing.Times.of([2.0, 3.0, 4.0])
    row = rows.compare("it", ours, "peer", theirs, goal=1.4, per=2)
    assert (row.value, row.other, row.ratio, row.holds) == (1.0, 1.5, 1.5, True)
    assert rows.compare("it", ours, "peer", theirs, goal=1.6).holds is False
    assert rows.figure("share", 0.05, "", most=0.05).holds is True
    assert rows.figure("share", 0.06, "", most=0.05).holds is False
    assert rows.figure("share", 0.4, "", least=0.5).holds is False


def test_a_peer_that_computes_something_else_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _module("dynamics_training")
    monkeypatch.setattr(training, "ours_of", lambda _: (lambda: None, 1.0))
    monkeypatch.setattr(training, "theirs_of", lambda *_, **__: (lambda: None, 1.1))
    with pytest.raises(SystemExit, match="not the same step"):
        training.measure(training.QUICK[0], None, rounds=1, peers=("eager",))


def test_an_optimiser_step_has_three_times_the_products_of_the_forward_pass() -> None:
    training = _module("dynamics_training")
    case = training.Case("tiny", 1, 1)
    model, tokens = case.model, case.clip - 1
    stack = model.stack()
    block = 4 * stack.width * stack.heads * stack.head_dim + 3 * stack.width * stack.inner
    products = model.layers * block + 2 * stack.width * model.rows * model.style_dim
    attention = model.layers * 2 * tokens * stack.heads * stack.head_dim
    assert training.step_flop(case) == 3 * 2 * tokens * (products + attention)


def _gathered(**results: object) -> dict:
    machine = {
        "cpu": "Processor", "cores": 2, "gpu": None, "memory_gib": 8.0, "python": "3.12.1", "versions": {"jax": "1.2"},
    }  # fmt: skip
    return {"machine": machine, "quick": False, "device": "cpu", "date": "2030-01-02", "results": results, "failed": {}}


def test_the_table_holds_every_figure_and_can_be_filled_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, timing, table = _module("rows"), _module("timing"), _module("table")
    times = timing.Times.of([0.002, 0.002, 0.002])
    row = rows.compare("a frame", times, "peer", timing.Times.of([0.004, 0.004, 0.004]), goal=1.5)
    listed = {"title": "Frames", "rows": [vars(row), vars(rows.figure("share", 0.125, "", most=0.05))]}
    results, readme = tmp_path / "cpu.json", tmp_path / "README.md"
    results.write_text(json.dumps(_gathered(frames=listed, page={"machine": {"cores": 3}, "fps": {"median": 31.25}})))
    readme.write_text(f"before\n{table.BEGIN}\nlast week\n{table.END}\nafter\n")
    _run("table", [str(results), "--readme", str(readme)], monkeypatch)
    once = readme.read_text()
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "last week" not in once
    assert "Processor, 2 cores, 8 GiB, Python 3.12.1, jax 1.2, 2030-01-02" in once
    assert "| a frame | 2 ms (2 .. 2) | peer: 4 ms (4 .. 4) | 2.00x | at least 1.5x: holds |" in once
    assert "| share | 0.125 |  |  | at most 0.05: does not hold |" in once
    assert "| fps.median | 31.25 |" in once
    assert "cores |" not in once
    _run("table", [str(results), "--readme", str(readme)], monkeypatch)
    assert readme.read_text() == once


@pytest.mark.parametrize("text", ["no marks", "<!-- bench:end --> <!-- bench:begin -->", "<!-- bench:begin -->"])
def test_a_readme_without_the_marks_is_refused_and_left_alone(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, readme = tmp_path / "cpu.json", tmp_path / "README.md"
    results.write_text(json.dumps(_gathered()))
    readme.write_text(text)
    with pytest.raises(SystemExit, match=re.escape(str(readme))):
        _run("table", [str(results), "--readme", str(readme)], monkeypatch)
    assert readme.read_text() == text


def test_all_benchmarks_are_gathered_and_a_failure_is_told_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = _module("run_all")
    monkeypatch.setattr(everything, "HERE", tmp_path)
    writes = "import json, sys\njson.dump({'words': sys.argv[3:], 'rows': []}, open(sys.argv[2], 'w'))\n"
    (tmp_path / "bridge.py").write_text(writes)
    (tmp_path / "ingest.py").write_text("raise SystemExit('no video')\n")
    words = ["--quick", "-o", str(tmp_path / "all.json")]
    with pytest.raises(SystemExit) as stopped:
        _run("run_all", words, monkeypatch)
    assert stopped.value.code == 1
    gathered = json.loads((tmp_path / "all.json").read_text())
    assert gathered["results"] == {"bridge": {"words": ["--quick", "--device", "cpu"], "rows": []}}
    assert gathered["failed"] == {"ingest": "no video"}
    assert "failed: ingest" in capsys.readouterr().out
    assert everything.wanted([], "cuda") == ["bridge"]


def test_make_lists_the_benchmarks() -> None:
    said = subprocess.run(["make", "help"], cwd=BENCHMARKS.parent, capture_output=True, text=True, check=True).stdout
    assert {"bench", "bench-gpu", "test"} <= {line.split()[1] for line in said.splitlines() if "make" in line}


def test_some_benchmarks_alone_keep_the_others_of_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything, output = _module("run_all"), tmp_path / "cpu.json"
    monkeypatch.setattr(everything, "run", lambda name, _: ({"by": "first", "name": name}, ""))
    _run("run_all", ["-o", str(output)], monkeypatch)
    monkeypatch.setattr(everything, "run", lambda name, _: ({"by": "second", "name": name}, ""))
    _run("run_all", ["-o", str(output), "--only", "bridge"], monkeypatch)
    results = json.loads(output.read_text())["results"]
    assert list(results) == list(everything.SCRIPTS)
    assert {name for name, result in results.items() if result["by"] == "second"} == {"bridge"}
    other = json.loads(output.read_text())
    other["machine"]["cpu"] = "another"
    output.write_text(json.dumps(other))
    _run("run_all", ["-o", str(output), "--only", "bridge"], monkeypatch)
    assert list(json.loads(output.read_text())["results"]) == ["bridge"]
