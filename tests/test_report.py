"""report.html and `genie compare`: one file that asks for nothing, holds every number, and lets no name run code."""

import copy
import itertools
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluate_fakes import ShiftWorld, make_store
from PIL import Image

from app.cli import main
from train.errors import UserError
from train.evaluate import TrueActions, evaluate
from train.evaluate.comparison import Subject, compare, differences
from train.evaluate.files import leaves, locate_metrics
from train.evaluate.meanings import MEANINGS, markdown_table
from train.evaluate.profile import PROFILES
from train.evaluate.report import write_report
from train.evaluate.report.chart import HEIGHT, WIDTH, Line, line_chart

HOSTILE = "<script>alert('1')</script>\"&.mp4"
DOCUMENTED = Path(__file__).parents[1] / "docs" / "metrics.md"
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Tags in balance, attributes, values of <data>, and the text of each element with an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str | None]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.values: dict[str, list[float]] = {}
        self.text: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        said = dict(attrs)
        if tag == "data":
            for inside in self._ids():
                self.values.setdefault(inside, []).append(float(said["value"]))
        if tag not in VOID:
            self.open.append((tag, said.get("id")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for inside in self._ids():
            self.text[inside] = self.text.get(inside, "") + data

    def of(self, tag: str, name: str) -> list[str]:
        return [value for where, key, value in self.attributes if (where, key) == (tag, name)]

    def _ids(self) -> list[str]:
        return [name for _, name in self.open if name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `evaluate` writes for a film with a hostile name and a world whose codes have hostile names."""
    store, actions = make_store((110, 90, 80))
    world = ShiftWorld("deaf")
    world.codes = [f"{HOSTILE} {n}" for n in range(4)]
    small = replace(PROFILES["quick"], clips=4, drift_clips=2, drift_steps=(16,), play_steps=5)
    truth = TrueActions(actions, np.zeros(0, np.int64), names=("stay", "<b>right", "down"))
    out = tmp_path_factory.mktemp("report") / "run" / "evaluation"
    evaluate(
        world, store, out=out, actions=truth, profile=small, subject=HOSTILE, command="genie & co", log=lambda _: None
    )
    return out


@pytest.fixture(scope="module")
def tree(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def written(folder: Path, tree: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(tree))
    return folder


def test_the_report_asks_for_nothing_outside_itself(folder: Path, page: Page) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r'src="data:[^"]*"', "", text))
    assert len(page.of("img", "src")) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.of("img", "src"))
    assert all(target.startswith("#") and target[1:] in page.text for target in page.of("a", "href"))
    assert not {tag for tag, _, _ in page.attributes} & {"script", "link", "iframe", "object"}
    assert "default-src 'none'" in " ".join(page.of("meta", "content"))
    assert len(text) < 3_000_000


def test_every_number_of_metrics_json_stands_under_its_key(tree: dict, page: Page) -> None:
    numbers = [(key, value) for key, value in leaves(tree) if value is not None]
    assert len(numbers) > 200
    for key, value in numbers:
        parts = key.split(".")
        home = next(name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in page.text)
        assert value in page.values[home], key
    for key, meaning in MEANINGS.items():
        assert key in page.text
        assert meaning.text.replace("`", "") in page.text["details"]


def test_what_was_not_measured_says_why(tree: dict, page: Page) -> None:
    absent = {key for key, value in leaves(tree) if value is None and key in MEANINGS}
    assert {"fvd", "drift.frechet_w", "actions.probe_accuracy_vector"} <= absent
    for key in absent:
        *_, last = key.split(".")
        assert page.text[key] == "null: " + look(tree["details"], key)["reason"].replace("`", ""), last
    assert "beyond the last that was measured" in page.text["drift.colour"]
    assert "not part of the profile" in page.text["drift"]


def look(node: dict, key: str) -> dict:
    for name in key.split("."):
        node = node[name]
    return node


def test_hostile_names_are_text(folder: Path, tree: dict, page: Page, tmp_path: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>" not in text
    assert HOSTILE in page.text["actions"]
    assert "<b>right" in page.text["actions"]
    assert "genie & co" in page.text["made"]
    changed = copy.deepcopy(tree)
    changed["world"]["name"] = changed["details"]["fvd"]["reason"] = HOSTILE
    again = write_report(written(tmp_path / "x", changed)).read_text(encoding="utf-8")
    assert "<script" not in again
    assert HOSTILE in Page(again).text["fvd"]


def test_codes_and_true_actions_are_counted(tree: dict, page: Page) -> None:
    met = tree["details"]["actions"]["nmi"]["confusion"]
    assert met["actions"] == ["stay", "<b>right", "down", "action 3"]
    counts = np.array(met["counts"])
    assert counts.sum() == tree["details"]["actions"]["nmi"]["n"]
    assert counts.trace() == counts.sum()  # the fake's codes are the actions
    assert page.text["actions"].count("100%") == 4


def test_tables_pictures_and_charts_can_be_read_aloud(page: Page) -> None:
    names = [(tag, name) for tag, name, _ in page.attributes]
    assert all(page.of("img", "alt"))
    assert len(page.of("img", "alt")) == len(page.of("img", "src"))
    charts = [value for value in page.of("svg", "aria-label") if value]
    assert page.of("svg", "role") == ["img"] * len(charts)
    assert "at step 1" in charts[0]
    assert set(page.of("th", "scope")) == {"row", "col"}
    assert names.count(("html", "lang")) == 1


def test_a_chart_has_a_point_for_each_value_and_runs_to_the_right() -> None:
    values = {step: float(np.sin(step)) for step in range(1, 65)}
    bands = {step: (value - 0.1, value + 0.1) for step, value in values.items()}
    chart = Page(line_chart("t", "dB", [Line("a", values, 1, bands), Line("b", {1: 0.0, 64: 1.5}, 2, baseline=True)]))
    (points, base) = (
        [tuple(map(float, p.split(","))) for p in line.split()] for line in chart.of("polyline", "points")
    )
    assert (len(points), len(base)) == (64, 2)
    xs, ys = zip(*points, strict=True)
    assert all(a < b for a, b in itertools.pairwise(xs))
    assert (base[0][0], base[1][0]) == (xs[0], xs[-1])
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in [*points, *base])
    assert np.corrcoef(ys, list(values.values()))[0, 1] < -0.999
    (band,) = chart.of("polygon", "points")
    assert len(band.split()) == 128
    assert len(chart.of("polyline", "stroke-dasharray")) == 1


@pytest.mark.parametrize("values", [{5: 2.0}, {1: 3.0, 16: 3.0}, {16: -1e-9, 1000: 1e6}])
def test_charts_of_few_equal_or_far_values_stay_in_their_frame(values: dict[int, float]) -> None:
    text = line_chart("t", "", [Line("a", values, 1)], logarithmic=True)
    (points,) = Page(text).of("polyline", "points")
    assert all(0 <= float(p.split(",")[1]) <= HEIGHT for p in points.split())
    assert "nan" not in text


def test_a_report_is_made_anew_without_pictures_and_without_what_older_files_lack(tree: dict, tmp_path: Path) -> None:
    old = {name: part for name, part in tree.items() if name not in ("world", "made")}
    text = write_report(written(tmp_path / "old", old)).read_text(encoding="utf-8")
    assert "rollouts.png is not in the folder" in text
    assert "did not record its command" in text
    Page(text)


def test_the_documented_table_is_the_one_that_the_report_uses() -> None:
    assert markdown_table() in DOCUMENTED.read_text()


@pytest.fixture
def others(tree: dict) -> dict[str, dict]:
    """The same evaluation with one step 0.1 dB worse, within the interval, and 5 dB worse, outside of it."""
    found = {"same": copy.deepcopy(tree)}
    for name, shift in (("near", -0.1), ("far", -5.0)):
        other = found[name] = copy.deepcopy(tree)
        other["rollout"]["psnr"]["8"] += shift
        other["play"]["p50_ms"] = tree["play"]["p50_ms"] - shift
        other["reconstruction"]["sharpness"] = tree["reconstruction"]["sharpness"] - shift
    for other in found.values():
        other["details"]["rollout"]["psnr"]["interval"]["8"] = [other["rollout"]["psnr"]["8"] + d for d in (-1, 1)]
    return found


def test_the_best_and_what_lies_apart_from_it_are_marked(others: dict[str, dict]) -> None:
    rows = {row.key: row.cells for row in compare([Subject(name, tree) for name, tree in others.items()])}
    assert [cell.best for cell in rows["rollout.psnr.8"]] == [True, False, False]
    assert [cell.apart for cell in rows["rollout.psnr.8"]] == [False, False, True]
    assert [cell.best for cell in rows["play.p50_ms"]] == [True, False, False]
    assert not any(cell.apart for cell in rows["play.p50_ms"])  # no interval, no claim
    near_one = [abs(tree["reconstruction"]["sharpness"] - 1) for tree in others.values()]
    assert [cell.best for cell in rows["reconstruction.sharpness"]].index(True) == int(np.argmin(near_one))
    assert not any(cell.best for cell in rows["rollout.psnr.1"])  # all equal
    assert not any(cell.best for cell in rows["rollout.copy_last_psnr.8"])  # a baseline wins nothing
    assert "fvd" not in rows
    assert "budget.parameters.total" in rows


def test_what_differs_is_named(tree: dict) -> None:
    other = copy.deepcopy(tree)
    assert differences([Subject("a", tree), Subject("b", other)]) == []
    other["data"] |= {"seed": 7, "subject": "b.mp4", "prompt": 8, "steps": 12}
    found = "; ".join(differences([Subject("a", tree), Subject("b", other)]))
    assert "seed (0, 7)" in found
    assert "b.mp4" in found
    assert "prompt (16, 8)" in found
    assert "steps (" in found


def test_the_command_prints_writes_and_warns(
    folder: Path, others: dict[str, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others["far"]["data"]["seed"] = 9
    far = written(tmp_path / "<b>far", others["far"])
    out = tmp_path / "compare.html"
    assert main(["compare", str(folder.parent), str(far / "metrics.json"), "-o", str(out)]) == 0
    captured = capsys.readouterr()
    warnings = [line for line in captured.err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "seed (0, 9)" in warnings[0]
    line = next(line for line in captured.out.splitlines() if line.startswith("rollout.psnr.8 "))
    assert re.search(r"dB \* .*dB !$", line)
    page = Page(out.read_text(encoding="utf-8"))
    assert "seed (0, 9)" in out.read_text(encoding="utf-8")
    assert "<b>far" in page.text["table"]
    first = page.of("polyline", "points")[:2]
    assert len({len(points.split()) for points in first}) == 1
    assert "psnr" in page.text["table"]
    assert main(["compare", str(folder), str(far), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    row = next(row for row in told["rows"] if row["key"] == "rollout.psnr.8")
    assert [cell["best"] for cell in row["cells"]] == [True, False]


def test_an_evaluation_is_found_by_run_world_and_folder(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder, run / "evaluation")
    (run / "world").mkdir()
    for given in (run, run / "world", run / "evaluation", run / "evaluation" / "metrics.json"):
        assert locate_metrics(given).resolve() == run / "evaluation" / "metrics.json"
    (tmp_path / "bundle").mkdir()
    shutil.copytree(folder, tmp_path / "bundle-evaluation")
    assert locate_metrics(tmp_path / "bundle").parent.name == "bundle-evaluation"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "no JSON"),
        ('{"schema": 1, "data": {}, "details": {}, "rollout": {"psnr": NaN}}', "no JSON"),
        ("[1]", "no result of an evaluation"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1, "data": {}}', "`details` is missing"),
        ('{"schema": 1, "data": {}, "details": {}, "world": []}', "`world` is no object"),
        ('{"schema": 1, "data": {}, "details": {}, "rollout": {"psnr": {"8": "x"}}}', "`rollout.psnr.8` is no number"),
    ],
)
def test_bad_files_are_told_in_one_line(
    text: str,
    fault: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.json").write_text(text)
    assert main(["compare", str(folder), str(tmp_path / "m.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert fault in line


@pytest.mark.parametrize(
    ("words", "fault"),
    [(["absent", "absent"], "no such file"), (["."], "Name two or more"), ([".", "."], "holds no metrics.json")],
)
def test_bad_words_are_told_in_one_line(
    words: list[str], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert fault in line


def test_large_pictures_leave_the_page_small(tree: dict, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    for name in ("rollouts", "reconstruction"):
        Image.fromarray(noise).save(written(tmp_path, tree) / f"{name}.png", compress_level=0)
    assert write_report(tmp_path).stat().st_size < 3_000_000


def test_a_broken_picture_is_told(tree: dict, tmp_path: Path) -> None:
    written(tmp_path, tree)
    (tmp_path / "rollouts.png").write_text("no picture")
    with pytest.raises(UserError, match="no picture that can be read"):
        write_report(tmp_path)
