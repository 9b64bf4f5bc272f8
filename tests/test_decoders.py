"""The benchmark of decoder recipes: trains and measures what is missing, once, and writes table and strips."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from media import moving_square, write_video
from PIL import Image

from app.cli import main as genie
from train.presets import preset

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import decoders

    return decoders


@pytest.fixture
def run(decoders: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The script with some words."""

    def with_words(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["decoders.py", *map(str, words)])
        return decoders.main()

    return with_words


def test_variants_are_trained_and_measured_once(
    decoders: ModuleType, run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, out = tmp_path / "frames", tmp_path / "out"
    for name in ("clip", "heldout"):
        write_video(tmp_path / f"{name}.mp4", moving_square(40), fps=30)
    assert genie(["prepare", str(tmp_path / "clip.mp4"), "--out", str(frames), "--size", "32", "--workers", "1"]) == 0
    words = ["--frames", frames, "--video", tmp_path / "heldout.mp4", "--preset", "debug", "-o", out, "--count", 12]
    words += ["--only", "plain,plain-map", "--encoder.perceptual", "0", "--device", "cpu", "--minutes", "5"]
    assert run(*words) == 0
    table = json.loads((out / "table.json").read_text())
    assert list(table) == ["plain", "plain-map"]
    assert [table[name][0]["rows"] for name in table] == [1, 1 + 8]
    for values in (several[0] for several in table.values()):
        assert values["frames"] == 12
        assert values["encoder_steps"] == preset("debug").encoder.pace.steps
        assert 0 < values["psnr"] < 60
        assert 0 <= values["fixed_point"] <= 2
    lines = (out / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(table)
    strips = np.asarray(Image.open(out / "strips.png"))
    assert strips.shape[0] > 3 * 96  # truth and two variants, 32 px shown three times as large
    assert not (out / "runs" / "plain-0" / "teacher").exists()
    assert not (out / "runs" / "plain-0" / "dynamics").exists()

    def never(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("what is done is not done again")

    monkeypatch.setattr(decoders, "train_run", never)
    assert run(*words) == 0
    with pytest.raises(AssertionError, match="not done again"):
        run(*words, "--encoder.l1", "2")  # another config is another result


def test_the_best_recipe_gets_the_other_latents(decoders: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    folder.mkdir()
    scores = {"frozen": [20.0, 21.0, 22.0], "tuned": [25.0, 26.0, 24.0], "joint": [10.0, 40.0, 11.0], "plain": [23.0]}
    for name, several in scores.items():
        for seed, value in enumerate(several):
            (folder / f"{name}-{seed}.json").write_text(json.dumps({"asked": {}, "measured": {"psnr": value}}))
    (folder / "plain-map-0.json").write_text(json.dumps({"asked": {}, "measured": {"psnr": 99.0}}))
    assert decoders.best(tmp_path, decoders.RECIPES) == "tuned"
    assert set(decoders.with_latents("tuned", 8)) == {"tuned-w+", "tuned-map"}


@pytest.mark.parametrize(("dim", "spatial"), [(16, 8), (128, 8), (512, 32), (96, 12)])
def test_the_map_is_the_least_that_fits(decoders: ModuleType, dim: int, spatial: int) -> None:
    assert decoders.least_map(dim) == spatial


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([], "give a RUN, or --frames FRAMES"),
        (["--frames", "FRAMES", "--only", "best"], "there is no such variant"),
        (["--frames", "FRAMES", "--minutes", "0"], "--minutes 0: is no time"),
        (["gone"], "gone: is no run"),
        (["--frames", "gone"], "no folder of frames"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], fault: str, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "manifest.json").write_text("{}")
    words = [str(tmp_path / "frames") if word == "FRAMES" else word for word in words]
    assert run(*words, "--video", "a.mp4", "-o", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("decoders: ")
    assert fault in lines[0]
