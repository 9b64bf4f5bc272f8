"""The bundled world: used when none is named, never written into, small, whole, and with the figures of its evaluation.

Holds with and without a world in the package: what depends on one is tested on a small one in its place, made by the
script that makes the real one, and the same checks run on the real one where there is one.
"""

import fnmatch
import importlib.util
import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from worlds import make_world

import app.worlds
from app.cli import main
from torch_bridge.bundle import PARTS, read_manifest, read_world
from torch_bridge.manifest import Provenance
from train.errors import UserError
from train.evaluate.files import read_metrics
from train.evaluate.results import SCHEMA
from train.evaluate.table import format_table
from train.run import Run, StageRecord

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("install_bundled_world", ROOT / "examples" / "install_bundled_world.py")
installer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(installer)


def evaluated(run: Path, **changes: object) -> Path:
    """A run's evaluation with few figures, of its own world unless `changes` say otherwise."""
    tree = {
        "schema": SCHEMA,
        "data": {"clips": 7, "prompt": 16, "steps": 64, "subject": "heldout.mp4"},
        "world": {"name": "mine", "sha256": read_manifest(run).sha256},
        "made": {"date": "today", "command": "genie evaluate runs/x / 2", "machine": "a machine"},
        "reconstruction": {"psnr": 31.417, "mean_frame_psnr": 16.5},
        "details": {},
    }
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "metrics.json").write_text(json.dumps(tree | changes))
    return run / "evaluation"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "mine"
    make_world(run / "world", provenance=Provenance("mine", versions={"jax": "1.2.3"}, sources=("film.mp4",)))
    record = Run(run)
    record.stages["encoder"] = StageRecord("done", seconds=90.0)
    record.save()
    return run


@pytest.fixture(scope="module")
def package(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a small bundled world has been installed."""
    place = tmp_path_factory.mktemp("package") / "app" / "bundled" / "doom"
    installer.install(run, evaluated(run), place)
    return place


@pytest.fixture
def bundled(package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """That world in the place of the package's own, and an empty working folder; it is the same afterwards."""
    monkeypatch.setattr(app.worlds, "BUNDLED", package)
    monkeypatch.chdir(tmp_path)
    before = {file: file.read_bytes() for file in package.parent.rglob("*") if file.is_file()}
    yield package
    assert {file: file.read_bytes() for file in package.parent.rglob("*") if file.is_file()} == before


def carried() -> list[str]:
    """Patterns of the data that a wheel of this package holds of `app`."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert not config["packages"]["find"]["namespaces"], "its folders would count as packages, without their data"
    return config["package-data"]["app"]


def check_bundle(place: Path) -> None:
    """All of it goes into a wheel, it is small and whole, and its page has the figures of its evaluation."""
    files = [file for file in place.rglob("*") if file.is_file()]
    for file in files:
        name = file.relative_to(place.parents[1]).as_posix()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in carried()), name
    assert sum(file.stat().st_size for file in files) <= installer.LIMIT == 12_000_000
    manifest, _, prompts = read_world(place)
    assert set(manifest.sha256) == set(PARTS)
    assert prompts
    metrics = read_metrics(place / "metrics.json")
    assert metrics["world"]["sha256"] == manifest.sha256
    page = (place / "README.md").read_text(encoding="utf-8")
    assert format_table(metrics) in page
    for text in [page, (place / "world.json").read_text(), (place / "metrics.json").read_text()]:
        assert str(ROOT) not in text


def test_a_bundle_is_small_whole_and_tells_its_figures(package: Path) -> None:
    check_bundle(package)
    page = (package / "README.md").read_text()
    for words in ("31.4", "1.5 minutes", "film.mp4", "jax 1.2.3", "a machine", installer.SCRIPT.read_text()):
        assert words in page


def test_every_bundled_world_of_the_package_is_so() -> None:
    assert app.worlds.BUNDLED == ROOT / "app" / "bundled" / "doom"
    found = sorted(manifest.parent for manifest in app.worlds.BUNDLED.parent.glob("*/world.json"))
    assert app.worlds.BUNDLED in found
    for world in found:
        check_bundle(world)


@pytest.mark.usefixtures("bundled")
def test_without_a_name_the_bundled_world_is_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "--actions", "0", "--steps", "2", "-o", "film.png", "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("no world named: using the bundled world doom (")
    assert "2 frames of 32x32" in told.out
    assert Path("film.png").is_file()


def test_results_on_the_bundled_world_go_where_one_works(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("app.commands.inspect._inspect", lambda *given: seen.append(given) or _stop())
    assert main(["inspect"]) == 2
    assert main(["inspect", str(bundled)]) == 2
    assert [given[-1] for given in seen] == [Path("doom-inspection")] * 2
    monkeypatch.setattr("app.commands.evaluate.frames_to_evaluate", lambda *given: seen.append(given) or _stop())
    assert main(["evaluate", "--video", "v.mp4"]) == 2
    assert seen[-1][-1] == Path("doom-evaluation")


def _stop() -> None:
    raise UserError("here", "it ends", "It is a test")


def one_line(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([*map(str, words)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    return "\n".join(line for line in lines if not line.startswith("no world named"))


def test_the_bundled_world_is_not_written_into(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--name", "1=left"], [bundled, "--key", "1=a"]):
        line = one_line(capsys, "inspect", *words)
        assert f"cp -r {bundled}" in line
        assert line.count("\n") == 0
    assert "Give -o" in one_line(capsys, "export-weights", bundled, "--to", "safetensors")
    shutil.copytree(bundled, "copy")
    assert "at least 1" in one_line(capsys, "inspect", "copy", "--name", "1=left", "--steps", "0")


@pytest.mark.usefixtures("bundled")
def test_a_world_among_the_videos_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "inspect"):
        line = one_line(capsys, command, "--video", "v.mp4", run)
        assert "before --video" in line
        assert str(run) in line


def test_without_a_bundled_world_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app.worlds, "BUNDLED", tmp_path / "doom")
    for words in (["rollout", "-o", tmp_path / "a.png"], ["inspect"], ["evaluate", "--video", "v.mp4"]):
        line = one_line(capsys, *words)
        assert "genie train VIDEO" in line
        assert line.count("\n") == 0


def test_what_must_not_be_bundled_is_refused(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "app" / "bundled" / "doom"
    refused = [
        ("evaluation of another world", {"world": {"sha256": {"encoder": "0"}}}),
        ("path of this machine", {"made": {"command": "genie evaluate --video=/home/me/v.mp4"}}),
    ]
    for fault, changes in refused:
        with pytest.raises(UserError, match=fault):
            installer.install(run, evaluated(run, **changes), place)
    with pytest.raises(UserError, match="it is no run"):
        installer.install(run / "world", evaluated(run), place)
    with pytest.raises(UserError, match=r"more than the 0\.1 MB"):
        installer.install(run, evaluated(run), place, limit=100_000)
    assert not list(place.parent.iterdir())
    place.mkdir()
    (place / "old").write_text("")
    assert installer.install(run, evaluated(run), place) == sum(f.stat().st_size for f in place.rglob("*.*"))
    assert not (place / "old").exists()


def test_the_copied_world_is_the_one_of_the_run(package: Path, run: Path) -> None:
    for part in PARTS:
        one, other = read_world(package)[1][part], read_world(run)[1][part]
        assert all(np.array_equal(one[name], other[name]) for name in other)
