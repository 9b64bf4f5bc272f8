"""`genie inspect`: movement of known pictures, codes that do nothing, the files that it writes, names that stay."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import write_video
from PIL import Image
from worlds import CODES, moving_squares, world_parts

from app.actions import parse_actions
from app.cli import main
from torch_bridge.bundle import Prompts, Tensors, read_manifest, read_world, write_world
from torch_bridge.keys import key_of
from torch_bridge.manifest import Code, WorldManifest, numbered_codes
from train.code_names import name_codes, names_setting, restore_names
from train.errors import UserError
from train.evaluate.flow import consistency, mean_flow
from train.inspection import format_table, inspect_world, write_inspection
from train.inspection.movement import movement_in_words
from train.inspection.truth import coincidence
from train.run import Run

SIDE, MARGIN = 48, 24
SHIFTS = ((0, 0), (-2, 0), (1, 2), (3, 0))  # right, down in pixels a step, by code


def view(right: float, down: float, *, zoom: float = 1.0, seed: int = 0) -> np.ndarray:
    """A soft texture seen through a (48, 48, 3) uint8 window, moved and enlarged about the middle."""
    rng = np.random.default_rng(seed)
    wide = cv2.GaussianBlur(rng.random((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3)).astype(np.float32), (0, 0), 2)
    wide = (255 * (wide - wide.min()) / (wide.max() - wide.min())).astype(np.uint8)
    middle = MARGIN + SIDE / 2
    move = np.array([[zoom, 0, middle * (1 - zoom) + right], [0, zoom, middle * (1 - zoom) + down]])
    return cv2.warpAffine(wide, move, wide.shape[:2])[MARGIN:-MARGIN, MARGIN:-MARGIN].copy()


def quiet(line: str) -> None:
    del line


class SlidingWorld:
    """Each code moves the texture of the prompt's own number by some pixels a step; w is the frame."""

    def __init__(self, shifts: tuple[tuple[int, int], ...] = SHIFTS) -> None:
        self.shifts = shifts
        self.codes = tuple(replace(code, name=f"go {k}") for k, code in enumerate(numbered_codes([1] * len(shifts))))

    def infer_actions(self, frames: np.ndarray) -> np.ndarray:
        return np.zeros(len(frames) - 1, np.int64)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), 1, -1).astype(np.float32)

    def decode(self, w: np.ndarray) -> np.ndarray:
        return w.reshape(-1, SIDE, SIDE, 3).astype(np.uint8)

    def rollout_batch(self, frames: np.ndarray, prompt_codes: np.ndarray, codes: np.ndarray) -> np.ndarray:
        assert prompt_codes.shape == (len(frames), frames.shape[1] - 1)
        seeds = [next(s for s in range(9) if (view(0, 0, seed=s) == clip[-1]).all()) for clip in frames]
        places = [np.cumsum([self.shifts[k] for k in row], axis=0) for row in codes]
        return np.stack([[view(*at, seed=s) for at in row] for s, row in zip(seeds, places, strict=True)])


def prompts() -> list[np.ndarray]:
    """Clips of different lengths."""
    return [np.stack([view(0, 0, seed=s)] * length) for s, length in enumerate((3, 1, 3, 2))]


def inspected(world: SlidingWorld):
    return inspect_world(world, world.codes, prompts(), name="sliding", source="made", steps=3, log=quiet)


def test_flow_has_the_direction_and_length_of_the_movement() -> None:
    film = np.stack([view(-2 * t, t) for t in range(4)])
    flow = mean_flow(film)
    np.testing.assert_allclose(flow.mean((0, 1)), (-2, 1), atol=0.1)
    assert movement_in_words(flow[None], SIDE) == "left 2.2 px" or movement_in_words(flow[None], SIDE).startswith(
        "down"
    )
    forward = mean_flow(np.stack([view(0, 0, zoom=1 + 0.06 * t) for t in range(4)]))
    assert movement_in_words(forward[None], SIDE).startswith("outward")
    assert movement_in_words(-forward[None], SIDE).startswith("inward")
    assert movement_in_words(np.stack([flow, -flow]), SIDE).startswith("mixed 2.")
    assert movement_in_words(0 * flow[None], SIDE) == "still"


def test_consistency_of_known_responses() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 1, 8, 8, 2))
    same = np.broadcast_to(base, (3, 6, 8, 8, 2)) * rng.uniform(1, 5, (3, 6, 1, 1, 1))
    found = consistency(same, SIDE)
    np.testing.assert_allclose(found.by_code_K, 1)
    flat = base.reshape(3, -1) / np.linalg.norm(base.reshape(3, -1), axis=1, keepdims=True)
    cosines = flat @ flat.T
    assert found.chance == pytest.approx(cosines[~np.eye(3, dtype=bool)].mean())
    noise = consistency(rng.normal(size=(2, 60, 8, 8, 2)), SIDE)
    assert np.abs(noise.by_code_K).max() < 0.02
    standing = np.zeros((2, 4, 8, 8, 2))
    standing[1] = (3, 0)
    still = consistency(standing, SIDE)
    np.testing.assert_allclose(still.by_code_K, 1)
    assert still.chance == pytest.approx(0)
    assert consistency(same[:, :1], SIDE).by_code_K is None


def test_codes_are_described_by_what_they_do() -> None:
    found, responses = inspected(SlidingWorld())
    assert found.codes[0].movement == "still"
    for code, shift in zip(found.codes, SHIFTS, strict=True):
        np.testing.assert_allclose(code.flow, shift, atol=0.15)
        assert code.consistency > 0.9
        assert code.effect > 0.5
    assert re.fullmatch(r"left (1\.9|2\.0|2\.1) px", found.codes[1].movement)
    assert found.chance < 0.6
    assert found.alarms == ()
    for n, clip in enumerate(prompts()):  # of several lengths, and still in their order
        np.testing.assert_array_equal(responses.before_NHWC[n], clip[-1])
        np.testing.assert_array_equal(responses.after_KNHWC[3, n], view(9, 0, seed=n))


@pytest.mark.parametrize(
    ("shifts", "words"),
    [(((2, 0),) * 4, "hardly answer to the code"), (((2, 0), (0, 2), (-3, 0), (0, 2)), "codes 1 and 3 do the same")],
)
def test_codes_without_effect_raise_the_alarm(shifts: tuple, words: str) -> None:
    (alarm,) = inspected(SlidingWorld(shifts)).findings.alarms
    assert words in alarm
    assert "train" in alarm


def test_true_actions_of_each_code() -> None:
    codes, actions = np.array([0, 0, 0, 0, 2, 2]), np.array([7, 7, 5, 7, 5, 5])
    found = coincidence(codes, actions, 3)
    assert found.shares == [{7: 0.75, 5: 0.25}, {}, {5: 1.0}]
    assert found.counts == [4, 0, 2]
    assert coincidence(codes, codes + 4, 3).nmi == pytest.approx(1)


@pytest.mark.parametrize("count", [2, 64])
def test_fewest_and_most_codes_are_all_shown(count: int, tmp_path: Path) -> None:
    world = SlidingWorld(tuple((k % 8 - 4, k // 8 - 4) for k in range(count)))
    found, responses = inspect_world(world, world.codes, prompts()[:2], name="many", source="made", steps=2, log=quiet)
    assert len(found.codes) == count
    write_inspection(tmp_path, found, responses)
    page = (tmp_path / "inspect.html").read_text(encoding="utf-8")
    assert all(f"go {k}<" in page for k in range(count))


@pytest.fixture(scope="module")
def parts() -> tuple[WorldManifest, Tensors, Prompts]:
    """A small world, made once: it takes seconds."""
    return world_parts(fps=10.0)


@pytest.fixture(scope="module")
def place(parts: tuple[WorldManifest, Tensors, Prompts], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """run/world, a video of it and the true actions."""
    place = tmp_path_factory.mktemp("inspect")
    write_world(place / "run" / "world", *parts)
    write_video(place / "v.mp4", moving_squares(80, size=64, seed=3), fps=10)
    np.savez(place / "v.npz", actions=np.random.default_rng(0).integers(0, 3, 80))
    return place


def genie(*words: object) -> int:
    return main(["inspect", *map(str, words), "--device", "cpu"])


class Page(HTMLParser):
    """Notes what stands in a page; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def named(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the world after an inspection with names, keys, a video and its actions; and the folder of results."""
    folder = tmp_path_factory.mktemp("named") / "world"
    shutil.copytree(place / "run" / "world", folder)
    Run(folder.parent).save()
    words = [
        "--name",
        "3=left",
        "--key",
        "3=A",
        "--name",
        "0=look up",
        "--key",
        "0=space",
        "--key",
        "1=4",
        "--key",
        "4==",
    ]
    words += ["--key", "2=up", "--video", place / "v.mp4", "--actions", place / "v.npz", "--clips", 3, "--steps", 2]
    assert genie(folder.parent, *words) == 0
    return folder, folder.parent / "inspection"


def test_files_tell_of_every_code(named: tuple[Path, Path]) -> None:
    out = named[1]
    tree = json.loads((out / "inspect.json").read_text())
    assert tree["prompts"] == 2 + 3
    assert [code["name"] for code in tree["codes"][:4]] == ["look up", "action 2", "action 3", "left"]
    assert sum(code["transitions"] for code in tree["codes"]) == 79
    assert 0 <= tree["nmi"] <= 1
    assert not [alarm for alarm in tree["alarms"] if "do the same" in alarm or "hardly answer" in alarm]
    with Image.open(out / "inspect.png") as image:
        assert image.width > 5 * 2 * 96
        assert image.height > CODES * 96
    text = (out / "inspect.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    pictures = [attrs for tag, attrs in page.found if tag == "img"]
    assert len(pictures) == CODES
    assert all(attrs["alt"] and attrs["src"].startswith("data:image/webp;base64,") for attrs in pictures)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert not [attrs for _, attrs in page.found if "href" in attrs]


def test_names_and_keys_are_stored_and_nothing_else_changes(place: Path, named: tuple[Path, Path]) -> None:
    folder, original = named[0], place / "run" / "world"
    manifest, before = read_world(folder)[0], read_manifest(original)  # checks the digests
    for file in original.glob("*.safetensors"):
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert manifest == replace(before, codes=manifest.codes)
    assert [(code.name, code.key) for code in manifest.codes[:5]] == [
        ("look up", " "), ("action 2", "4"), ("action 3", "ArrowUp"), ("left", "a"), ("action 5", "="),
    ]  # fmt: skip
    assert [code.usage for code in manifest.codes] == [code.usage for code in before.codes]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_table_shows_true_actions_where_they_are_known() -> None:
    found = inspected(SlidingWorld()).findings
    assert "true action" not in format_table(found)
    assert re.search(r"1 +go 1 +2 +25.0% +left [12].\d px", format_table(found))
    truth = coincidence(np.array([0, 0, 1, 3]), np.array([5, 5, 6, 5]), 4)
    clips = prompts()
    known = inspect_world(SlidingWorld(), SlidingWorld().codes, clips, name="a", source="b", truth=truth, log=quiet)
    assert "5 in 100%" in format_table(known.findings)


def test_deaf_dynamics_raise_the_alarm_in_json_and_a_hostile_name_stays_text(
    parts: tuple[WorldManifest, Tensors, Prompts], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, tensors, prompts = parts
    code_KM = tensors["dynamics"]["params/embed/code"]
    deaf = tensors["dynamics"] | {"params/embed/code": np.broadcast_to(code_KM[:1], code_KM.shape)}
    codes = (Code("<script>alert(1)</script>", "1"), *manifest.codes[1:])
    write_world(tmp_path / "<b>world", replace(manifest, codes=codes), tensors | {"dynamics": deaf}, prompts)
    assert genie(tmp_path / "<b>world", "--json", "--steps", 1, "-o", tmp_path / "o") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "o" / "inspect.json").read_text())
    assert any("hardly answer to the code" in alarm for alarm in told["alarms"])
    assert {code["effect"] for code in told["codes"]} == {0.0}
    assert told["nmi"] is None
    text = (tmp_path / "o" / "inspect.html").read_text()
    assert "<script" not in text
    assert "<b>world" not in text


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--name", "left"], "CODE=VALUE"),
        (["--name", "x=left"], "CODE=VALUE"),
        (["--key", "3="], "CODE=VALUE"),
        (["--name", "8=left"], "no code 8"),
        (["--name", "1=a", "--name", "1=b"], "given twice"),
        (["--name", "1=Action 3"], "code 2 has it already"),
        (["--key", "1=3"], "code 2 has it already"),
        (["--key", "1=x", "--key", "2=X"], "has it already"),
        (["--key", "1=Entre"], "Did you mean enter"),
        (["--key", "1=ab"], "no key"),
        (["--name", "1=a,b"], "--actions could not tell"),
        (["--name", "1=7"], "--actions could not tell"),
        (["--name", "1=random"], "--actions could not tell"),
        (["--name", "1= "], "no name"),
        (["--steps", "0"], "at least 1"),
        (["--clips", "0"], "at least 1"),
        (["--actions", "a.npz"], "belongs to a video"),
        (["-o", "{file}"], "in the place of the folder"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], fault: str
) -> None:
    (tmp_path / "file").write_text("")
    folder = place / "run" / "world"
    before = (folder / "world.json").read_bytes()
    assert genie(folder, *(word.format(file=tmp_path / "file") for word in words)) == 2
    told = capsys.readouterr().err
    assert fault in told
    assert told.count("\n") == 1
    assert (folder / "world.json").read_bytes() == before


def test_a_run_gives_the_names_back_to_the_same_codes_alone(
    parts: tuple[WorldManifest, Tensors, Prompts], tmp_path: Path
) -> None:
    manifest, tensors, prompts = parts
    folder, lines = tmp_path / "world", []
    write_world(folder, manifest, tensors, prompts)
    Run(tmp_path).save()
    name_codes(folder, {3: "left"}, {3: "a"})
    settings = Run(tmp_path).settings
    assert names_setting(settings) == settings
    assert names_setting({"minutes": 3}) == {}
    write_world(folder, manifest, tensors | {"dynamics": dict(tensors["dynamics"])}, prompts)  # packed anew
    assert read_manifest(folder).codes[3].name == "action 4"
    restore_names(Run(tmp_path), folder, lines.append)
    assert (read_manifest(folder).codes[3].name, read_manifest(folder).codes[3].key) == ("left", "a")
    assert lines == []
    others = tensors["actions"] | {"vq/embed_KD": tensors["actions"]["vq/embed_KD"][::-1]}
    write_world(folder, manifest, tensors | {"actions": others}, prompts)
    restore_names(Run(tmp_path), folder, lines.append)
    assert read_manifest(folder).codes[3].name == "action 4"
    assert "no longer those that were named" in lines[0]


def test_a_run_in_training_is_not_renamed(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    shutil.copytree(place / "run" / "world", folder)
    Run(tmp_path).save()
    before = (folder / "world.json").read_bytes()

    def refuse(*_: object) -> None:
        raise OSError("locked")

    monkeypatch.setattr("train.run.fcntl.lockf", refuse)
    with pytest.raises(UserError, match="another process trains"):
        name_codes(folder, {3: "left"}, {})
    assert (folder / "world.json").read_bytes() == before


def test_rollouts_take_names() -> None:
    names = ["left", "Look Up", "fire"]
    usage = [0.5, 0.3, 0.2]
    assert parse_actions("hold:left", 3, usage, 0, names).tolist() == [0, 0, 0]
    assert parse_actions("look up,2,LEFT", None, usage, 0, names).tolist() == [1, 2, 0]
    with pytest.raises(UserError, match="called left, Look Up, fire"):
        parse_actions("right", 3, usage, 0, names)


def test_keys_as_people_write_them() -> None:
    written = ["a", "A", "7", ";", " ", "space", "left", "arrowleft", "ENTER", "f12", "Ä"]
    assert [key_of(text) for text in written] == [
        "a", "a", "7", ";", " ", " ", "ArrowLeft", "ArrowLeft", "Enter", "F12", "ä",
    ]  # fmt: skip
    for text in ("", "aa", "F0", "\n", "F100"):
        with pytest.raises(ValueError, match="no key"):
            key_of(text)
