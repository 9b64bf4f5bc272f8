"""Films hold what was put in: as many frames, in order, at the right rate, with the held code lit."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from app.film import Gif, Sheet, check_film_path, film_writers
from app.overlay import Overlay
from torch_bridge.manifest import Code, numbered_codes
from train.errors import UserError


def shades(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames that grow brighter."""
    levels = np.linspace(20, 230, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3))


def write(path: Path, frames: np.ndarray, fps: float = 12.5) -> Path:
    with film_writers([path], fps) as (writer,):
        for frame in frames:
            writer.add(frame)
    return path


def test_mp4_plays_back(tmp_path: Path) -> None:
    frames = shades(30)
    with av.open(str(write(tmp_path / "a.mp4", frames))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).mean() < 4


def test_odd_sides_are_refused_before_a_broken_file_stands(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even sides"):
        write(tmp_path / "a.mp4", shades(2, 31, 48))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("fps", "count", "frames"), [(12.5, 10, 10), (30, 30, 30), (100, 40, 20)])
def test_gif_lasts_as_long_as_the_film(tmp_path: Path, fps: float, count: int, frames: int) -> None:
    with Image.open(write(tmp_path / "a.gif", shades(count), fps)) as image:
        assert image.n_frames == frames
        assert image.info["loop"] == 0
        durations, levels = [], []
        for number in range(image.n_frames):
            image.seek(number)
            durations.append(image.info["duration"])
            levels.append(np.asarray(image.convert("RGB")).mean())
    assert min(durations) >= 20
    assert sum(durations) == pytest.approx(1000 * count / fps, abs=10)
    assert np.all(np.diff(levels) > 0)


@pytest.mark.parametrize(("count", "stills"), [(1, 1), (5, 5), (24, 24), (25, 13), (100, 13), (200, 13)])
def test_sheet_thins_evenly(tmp_path: Path, count: int, stills: int) -> None:
    sheet = Sheet(tmp_path / "a.png", columns=6, gap=0)
    for frame in shades(count):
        sheet.add(frame)
    sheet.close()
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("L"))
    columns = min(stills, 6)
    assert pixels.shape == (-(-stills // columns) * 32, columns * 48)
    tiles = pixels[16::32, 24::48].reshape(-1)[:stills].astype(int)
    assert tiles[0] == shades(count)[0].max()
    every = 1
    while -(-count // every) > 24:
        every *= 2
    assert tiles.tolist() == [frame.max() for frame in shades(count)[::every]]


def test_a_film_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"old")

    def interrupted() -> None:
        with film_writers([tmp_path / "old.mp4", tmp_path / "b.png"], 10) as writers:
            for writer in writers:
                writer.add(shades(1)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "old.mp4").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["old.mp4"]


def test_paths_that_name_no_film(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.mp4, \.gif or \.png"):
        check_film_path(tmp_path / "film.avi")
    (tmp_path / "x.png").mkdir()
    with pytest.raises(UserError, match="folder"):
        check_film_path(tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "file" / "a.gif", shades(1))
    with pytest.raises(ValueError, match="at least one frame"):
        Gif(tmp_path / "a.gif", 10).close()


@pytest.mark.parametrize(("size", "count"), [(64, 8), (100, 12), (256, 1), (33, 8), (512, 3), (64, 2), (64, 64)])
def test_the_panel_leaves_the_picture_alone_and_lights_the_held_key(size: int, count: int) -> None:
    panel = Overlay(numbered_codes(np.ones(count)), size)
    frame = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    idle = panel.draw(frame, None, "7")
    assert idle.shape == (panel.height, panel.width, 3)
    assert idle.shape[0] % 2 == idle.shape[1] % 2 == 0
    assert panel.side >= 256
    step = panel.factor
    np.testing.assert_array_equal(idle[: panel.side : step, : panel.side : step], frame)
    centres = []
    for held in range(count):
        lit = (panel.draw(frame, held, "7")[panel.side :] == (255, 176, 60)).all(-1)
        assert lit.sum() > 100
        rows, columns = np.nonzero(lit)
        centres.append((rows.mean() // 20, columns.mean()))
    assert centres == sorted(centres)
    assert not (idle[panel.side :] == (255, 176, 60)).all(-1).any()


def test_long_names_and_odd_keys_stay_inside() -> None:
    codes = [
        Code("a name that is far too long for the panel of a small frame", "ArrowLeft"),
        Code("b", "F12"),
        Code("c", " "),
    ]
    panel = Overlay(codes, 64)
    drawn = panel.draw(np.zeros((64, 64, 3), np.uint8), 0, "123456")
    assert (drawn[panel.side :, :8] == drawn[-1, -1]).all()
    assert (drawn[panel.side :, -8:] == drawn[-1, -1]).all()
