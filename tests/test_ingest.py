"""Preparing real files: every kind of input, bad input, resuming, full disks."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import moving_square, write_sound_file, write_video
from PIL import Image

from train.errors import UserError
from train.ingest import worker
from train.ingest.decode import decode_clip
from train.ingest.prepare import IngestConfig, prepare
from train.ingest.probe import open_video
from train.ingest.store import FrameStore, Manifest

CONFIG = IngestConfig(fps=15, size=32)


def ingest(inputs, out, config=CONFIG, workers=1):
    """(store, log lines)."""
    lines = []
    prepare([Path(i) for i in inputs], out, config, workers=workers, log=lines.append, progress=False)
    return FrameStore(out), lines


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """60 frames at 30 a second."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", moving_square(60), sound=True)


def test_a_video_becomes_frames_shots_and_a_report(tmp_path, clip):
    store, lines = ingest([clip], tmp_path)
    assert len(store) == 30
    assert store.fps == 15
    assert store.shots.tolist() == [[0, 30]]
    assert store.source_index.tolist() == list(range(0, 60, 2))
    source = store.sources[0]
    assert (source.name, source.source_fps, source.crop) == ("clip.mp4", 30.0, [16, 0, 64, 64])
    expected = cv2.resize(moving_square(60)[40][:, 16:80], (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(store[20].astype(int) - expected).mean() < 6
    assert Image.open(tmp_path / "contact_sheet.png").size[0] > 32
    assert "kept 30 frames in 1 shots" in (tmp_path / "report.txt").read_text()
    assert "kept 30 frames" in lines[-1]
    assert not list(tmp_path.glob(".*"))


def test_several_sources_in_several_processes(tmp_path, clip):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(clip, folder / "a.mp4")
    write_video(folder / "deep" / "b.mkv", moving_square(40, seed=1) + moving_square(40, seed=2), fps=15)
    write_video(folder / "deep" / "portrait.webm", moving_square(20, width=64, height=96), fps=10, codec="libvpx")
    (folder / "notes.txt").write_text("no video")
    store, lines = ingest([folder], tmp_path / "out", workers=2)
    assert [s.name for s in store.sources] == ["a.mp4", "b.mkv", "portrait.webm"]
    assert [s.fps for s in store.sources] == [15, 15, 10]
    assert store.shots.tolist() == [[0, 30], [30, 70], [70, 110], [110, 130]]
    assert store.source_index[[30, 109, 110]].tolist() == [0, 79, 0]
    assert any("1 files that are neither" in line for line in lines)
    assert any("differ in rate" in line for line in lines)
    single, _ = ingest([folder / "deep" / "b.mkv"], tmp_path / "single")
    np.testing.assert_array_equal(single.read(range(80)), store.read(range(30, 110)))


def test_lossless_frames_are_exact(tmp_path):
    pictures = moving_square(10, width=32, height=32)
    folder = tmp_path / "images"
    folder.mkdir()
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{n}.png")
    store, _ = ingest([folder], tmp_path / "out", IngestConfig(size=32, lossless=True))
    np.testing.assert_array_equal(store.read(range(10)), pictures)  # and in natural order: 2 before 10
    assert store.fps == 15


def test_a_named_image_and_its_faults(tmp_path):
    grey = tmp_path / "1.png"
    for n, picture in enumerate(moving_square(4, width=40, height=20)):
        Image.fromarray(picture).save(tmp_path / f"{n + 2}.jpg")
    Image.fromarray(np.full((20, 40), 99, np.uint8)).save(grey)
    (tmp_path / "3.jpg").write_bytes(b"broken")
    store, lines = ingest(sorted(tmp_path.glob("*.*")), tmp_path / "out")
    assert any("3.jpg" in line and "not a readable image" in line for line in lines)
    assert store.source_index.tolist() == [3, 4]  # a lone image before the gap is no shot
    assert store.sources[0].dropped_by_reason() == {"short shot": 2}


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_the_rotation_tag_turns_the_frames(tmp_path, rotation):
    pictures = moving_square(6)
    video = write_video(tmp_path / "r.mp4", pictures, rotation=rotation, fps=10)
    frames, _ = decode_clip(video, size=32, fps=10)
    turned = np.rot90(pictures[3], rotation // 90)
    height, width = turned.shape[:2]
    y, x = (height - 64) // 2, (width - 64) // 2
    expected = cv2.resize(turned[y : y + 64, x : x + 64], (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(frames[3].astype(int) - expected).mean() < 6


def test_a_varying_frame_rate_is_resampled_by_time(tmp_path):
    pictures = [np.full((64, 64, 3), 20 + 5 * n, np.uint8) for n in range(40)]
    times = [n / 30 for n in range(20)] + [19 / 30 + n / 10 for n in range(1, 21)]
    video = write_video(tmp_path / "v.mkv", pictures, times=times)
    frames, index = decode_clip(video, size=16, fps=10)
    shown = [int(np.searchsorted(times, n / 10 + 0.01, side="right")) - 1 for n in range(len(index))]
    assert np.abs(index - shown).max() <= 1
    assert len(index) == pytest.approx(times[-1] * 10, abs=2)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - (20 + 5 * index)).max() < 4


def test_letterbox_bars_are_removed(tmp_path):
    pictures = [np.pad(p, ((16, 16), (0, 0), (0, 0))) for p in moving_square(30, width=96, height=64)]
    video = write_video(tmp_path / "l.mp4", pictures)
    store, _ = ingest([video], tmp_path / "out")
    assert store.sources[0].crop == [16, 16, 64, 64]
    kept, _ = ingest([video], tmp_path / "kept", IngestConfig(size=32, letterbox=False))
    assert kept.sources[0].crop == [0, 0, 96, 96]


def test_bad_inputs_give_one_line_each_and_the_rest_goes_on(tmp_path, clip):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_bytes(b"this is no video " * 50)
    write_sound_file(tmp_path / "sound.m4a")
    write_sound_file(tmp_path / "cover.mp4", cover=moving_square(1)[0])
    still = write_video(tmp_path / "black.mp4", [np.zeros((64, 96, 3), np.uint8)] * 30)
    bad = [tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "sound.m4a", tmp_path / "cover.mp4", still]
    store, lines = ingest([*bad, clip], tmp_path / "out")
    assert len(store) == 30
    faults = {
        "empty.mp4": "is empty",
        "text.mp4": "not a readable",
        "sound.m4a": "sound only",
        "cover.mp4": "sound only",
    }
    for name, words in faults.items():
        assert [words in line for line in lines if line.startswith(name)] == [True]
    assert any(line.startswith("black.mp4: nothing to keep") for line in lines)
    assert [name for name, _ in store.manifest.skipped] == [b.name for b in bad]
    with pytest.raises(UserError, match="nothing in it can be used"):
        ingest(bad, tmp_path / "none")


def test_a_missing_input_is_refused_before_any_work(tmp_path, clip):
    with pytest.raises(UserError, match="no such file"):
        ingest([clip, tmp_path / "nowhere.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_file_keeps_what_can_be_decoded_and_says_so(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    whole = write_video(tmp_path / f"w{suffix}", moving_square(300), options={"g": "30"}, container_options=options)
    video = tmp_path / f"t{suffix}"
    video.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    store, lines = ingest([video], tmp_path / "out")
    assert 30 < len(store) < 140
    assert any(line.startswith(f"t{suffix}: truncated") for line in lines)
    full, _ = ingest([whole], tmp_path / "full")
    np.testing.assert_array_equal(store.read(range(30)), full.read(range(30)))


def test_damage_in_the_middle_splits_the_shot(tmp_path):
    whole = write_video(tmp_path / "w.ts", moving_square(300), codec="mpeg4", options={"g": "10"})
    raw = bytearray(whole.read_bytes())
    middle = len(raw) // 2 // 188 * 188
    raw[middle : middle + 188 * 40] = b"\xff" * (188 * 40)
    video = tmp_path / "d.ts"
    video.write_bytes(raw)
    store, _ = ingest([video], tmp_path / "out")
    assert 100 < len(store) < 151


def files(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.suffix in (".arrayrecord", ".npy")}


def test_finished_sources_are_kept_and_another_configuration_redoes(tmp_path, clip):
    ingest([clip], tmp_path)
    before = files(tmp_path)
    store, lines = ingest([clip], tmp_path)
    assert files(tmp_path) == before
    assert any("prepared before" in line for line in lines)
    store, _ = ingest([clip], tmp_path, IngestConfig(fps=15, size=16))
    assert store.size == 16
    assert not set(files(tmp_path)) & set(before)  # and the old ones are gone
    renamed = shutil.copy(clip, tmp_path / "again.mp4")
    assert any("prepared before" in line for line in ingest([renamed], tmp_path, IngestConfig(fps=15, size=16))[1])


def test_equal_contents_count_once(tmp_path, clip):
    twin = shutil.copy(clip, tmp_path / "twin.mp4")
    store, lines = ingest([clip, twin], tmp_path / "out")
    assert len(store) == 30
    assert any("same content as clip.mp4" in line for line in lines)


def test_a_killed_run_continues(tmp_path):
    videos = [
        write_video(tmp_path / f"{n}.mp4", moving_square(length, seed=n), options={"preset": "ultrafast"})
        for n, length in enumerate((40, 1500))
    ]
    out = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from train.ingest.prepare import *\n"
        "prepare([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]), IngestConfig(fps=30, size=32), workers=1)"
    )
    root = Path(__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", code, out, *videos], cwd=root, stderr=subprocess.DEVNULL)
    while not list(out.glob("*.json")) or not list(out.glob(".partial-*")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    finished = files(out)
    assert finished
    config = IngestConfig(fps=30, size=32)
    store, _ = ingest(videos, out, config)
    assert finished.items() <= files(out).items()
    clean, _ = ingest(videos, tmp_path / "clean", config)
    assert store.manifest == clean.manifest
    np.testing.assert_array_equal(store.read(range(0, len(store), 37)), clean.read(range(0, len(store), 37)))
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("write(): No space left")])
def test_a_full_disk_stops_cleanly_and_the_same_command_continues(tmp_path, clip, monkeypatch, error):
    other = write_video(tmp_path / "other.mp4", moving_square(60, seed=9))
    out = tmp_path / "out"
    written, close = [], worker.ShardWriter.close

    def failing_close(self):
        close(self)
        written.append(1)
        if len(written) > 2:
            raise error

    monkeypatch.setattr(worker.ShardWriter, "close", failing_close)
    with pytest.raises(UserError, match="disk is full"):
        ingest([clip, other], out)
    monkeypatch.undo()
    assert len(files(out)) == 2
    assert not list(out.glob(".*"))
    store, lines = ingest([clip, other], out)
    assert len(store) == 60
    assert any(line.startswith("clip.mp4: prepared before") for line in lines)


def test_a_damaged_store_is_refused(tmp_path, clip):
    ingest([clip], tmp_path)
    shard = next(tmp_path.glob("*.arrayrecord"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError):
        FrameStore(tmp_path)
    shard.unlink()
    with pytest.raises(UserError, match="missing"):
        FrameStore(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(UserError, match="Update the program"):
        Manifest.load(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Manifest.load(tmp_path)
    with pytest.raises(UserError, match="genie prepare"):
        FrameStore(tmp_path / "nowhere")


def test_a_worker_loads_no_deep_learning_framework():
    code = "import sys, train.ingest.worker; sys.exit(bool({'torch', 'jax'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


def test_a_prompt_is_a_video_or_an_image_of_any_size(tmp_path, clip):
    frames, index = decode_clip(clip, size=24, fps=15)
    assert frames.shape == (30, 24, 24, 3)
    assert index.tolist() == list(range(0, 60, 2))
    image = tmp_path / "i.png"
    Image.fromarray(np.full((100, 300, 4), (200, 0, 0, 255), np.uint8)).save(image)
    frames, index = decode_clip(image, size=24, fps=15, crop="fit")
    assert frames.shape == (1, 24, 24, 3)
    assert frames[0, 12, 12].tolist() == [200, 0, 0]
    for bad, content in (("x.png", b"x"), ("x.mp4", b"x")):
        (tmp_path / bad).write_bytes(content)
        with pytest.raises(UserError, match="not a readable"):
            decode_clip(tmp_path / bad, size=24, fps=15)
    with pytest.raises(UserError, match="no such file"):
        decode_clip(tmp_path / "none.png", size=24, fps=15)


@pytest.mark.parametrize(("field", "value"), [("fps", 0), ("size", 1), ("crop", "top"), ("duplicates_seconds", -1)])
def test_a_configuration_that_makes_no_sense_is_refused(tmp_path, clip, field, value):
    with pytest.raises(UserError):
        ingest([clip], tmp_path / "out", IngestConfig(**{field: value}))


def test_a_region_outside_the_picture_is_refused(tmp_path, clip):
    with pytest.raises(UserError, match="leaves a picture of 96x64"):
        ingest([clip], tmp_path / "out", IngestConfig(crop="0,0,100,64"))
    store, _ = ingest([clip], tmp_path / "out", IngestConfig(crop="0,0,64,64"))
    assert store.sources[0].crop == [0, 0, 64, 64]


def test_damaged_text_of_metadata_is_no_reason_to_refuse_a_video(tmp_path: Path) -> None:
    path = tmp_path / "titled.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "QQQQQQQQ"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    octets = path.read_bytes()
    assert octets.count(b"QQQQQQQQ") == 1
    path.write_bytes(octets.replace(b"QQQQQQQQ", b"Q\xff\xfe\xc3QQQQ"))
    with open_video(path) as container:
        assert container.streams.video
