"""`genie rollout` from the command line: films, prompts of every kind, and faults in one line."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from worlds import CODES, SIZE, make_world, moving_squares

from app.actions import parse_actions
from app.cli import main
from app.film import film_writers
from app.prompts import find_prompt
from train.errors import UserError


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that holds a world."""
    run = tmp_path_factory.mktemp("runs") / "mine"
    make_world(run / "world")
    return run


def genie(*words: object) -> int:
    return main(["rollout", *map(str, words), "--device", "cpu"])


def test_films_of_a_run(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films = [tmp_path / "new" / f"film.{kind}" for kind in ("mp4", "gif", "png")]
    outs = [word for film in films for word in ("-o", film)]
    assert genie(run_folder, "--actions", "0,0,3", "--steps", 7, *outs) == 0
    assert "7 frames of 32x32 from prompt 00" in capsys.readouterr().out
    with av.open(str(films[0])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 16 + 7
    with Image.open(films[1]) as image:
        assert image.n_frames == 16 + 7
    assert films[2].stat().st_size > 1000


def test_same_words_same_film(run_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert genie(run_folder / "world", "--steps", 5, "--seed", 4, "-o", tmp_path / f"{name}.png", "--plain") == 0
    assert genie(run_folder / "world", "--steps", 5, "--seed", 6, "-o", tmp_path / "c.png", "--plain") == 0
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_prompts_of_every_kind(tmp_path: Path) -> None:
    own = {"00": moving_squares(16), "garden": moving_squares(16, seed=1)}
    sizes = {"size": SIZE, "fps": 12.0, "window": 4}
    Image.new("RGB", (200, 90), (250, 10, 10)).save(tmp_path / "red.jpg")
    with film_writers([tmp_path / "clip.mp4"], 12.0) as (writer,):
        for frame in moving_squares(12, size=64):
            writer.add(frame)
    name, frames = find_prompt(str(tmp_path / "red.jpg"), own, **sizes)
    assert (name, frames.shape) == ("red", (1, SIZE, SIZE, 3))
    assert np.abs(frames.mean((0, 1, 2)) - (250, 10, 10)).max() < 5
    assert find_prompt(str(tmp_path / "clip.mp4"), own, **sizes)[1].shape == (4, SIZE, SIZE, 3)
    assert find_prompt("garden", own, **sizes)[1] is own["garden"]
    assert find_prompt(None, own, **sizes)[0] == "00"
    with pytest.raises(UserError, match="Did you mean garden"):
        find_prompt("gardn", own, **sizes)
    with pytest.raises(UserError, match="no prompt of its own"):
        find_prompt(None, {}, **sizes)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="image"):
        find_prompt(str(tmp_path / "broken.png"), own, **sizes)


def test_actions_as_written() -> None:
    usage = [0.7, 0.3, 0.0]
    assert parse_actions("0,2", None, usage, 0).tolist() == [0, 2]
    assert parse_actions("0,2", 5, usage, 0).tolist() == [0, 2, 0, 2, 0]
    assert parse_actions("hold:2", 3, usage, 0).tolist() == [2, 2, 2]
    assert len(parse_actions("hold:1", None, usage, 0)) == len(parse_actions("random", None, usage, 0)) == 100


def test_random_actions_are_sticky_and_as_frequent_as_in_the_corpus() -> None:
    codes = parse_actions("random", 40_000, [0.7, 0.3, 0.0], 1)
    np.testing.assert_array_equal(codes, parse_actions("random", 40_000, [0.7, 0.3, 0.0], 1))
    share = np.bincount(codes, minlength=3) / len(codes)
    np.testing.assert_allclose(share, [0.7, 0.3, 0.0], atol=0.03)
    changes = np.mean(codes[1:] != codes[:-1])
    assert changes == pytest.approx(0.15 * (2 * 0.7 * 0.3), rel=0.1)
    assert len(set(parse_actions("random", 1000, [0.0, 0.0], 1).tolist())) == 2


@pytest.mark.parametrize("actions", ["", "0,", "a", "hold:", "hold:0,1", "9", "-1", "hold:8", "0;1"])
def test_actions_that_cannot_be(actions: str) -> None:
    with pytest.raises(UserError, match="--actions"):
        parse_actions(actions, 10, [0.125] * CODES, 0)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["{tmp}/none", "-o", "{tmp}/a.mp4"], "no such folder"),
        (["{tmp}", "-o", "{tmp}/a.mp4"], "genie train"),
        (["{run}", "-o", "{tmp}/a.avi"], ".mp4, .gif or .png"),
        (["{run}", "-o", "{tmp}/a.mp4", "--actions", "99"], "no code 99"),
        (["{run}", "-o", "{tmp}/a.mp4", "--steps", "0"], "at least 1"),
        (["{run}", "-o", "{tmp}/a.mp4", "--prompt", "nothing"], "no prompt of this world"),
        (["{run}", "-o", "{tmp}/a.mp4", "--clamp", "-1"], "clamp must be positive"),
        (["{run}"], "-o"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], fault: str
) -> None:
    assert genie(*(word.format(run=run_folder, tmp=tmp_path) for word in words)) == 2
    told = capsys.readouterr().err
    assert fault in told
    assert told.count("\n") == 1
    assert not (tmp_path / "a.mp4").exists()


def test_damaged_world_is_one_line(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run_folder / "world", tmp_path / "w")
    (tmp_path / "w" / "dynamics.safetensors").write_bytes(b"x")
    assert genie(tmp_path / "w", "-o", tmp_path / "a.mp4") == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/w/dynamics.safetensors: it is damaged" in told
    assert told.count("\n") == 1
