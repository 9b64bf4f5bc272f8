"""Which frames are kept and where shots begin, judged on drawn frames without any file."""

import cv2
import numpy as np
import pytest
from media import moving_square

from train.ingest.crop import find_content, make_framing, parse_crop
from train.ingest.shots import ShotSplitter
from train.ingest.video import output_rate, resample

FPS = 10
BLACK = np.zeros((64, 64, 3), np.uint8)


def scene(frames, seed):
    return moving_square(frames, width=64, height=64, seed=seed)


def judge(frames, *, gaps=(), detect_cuts=True):
    """Shots as lists of frame numbers, and dropped frame numbers by reason."""
    splitter = ShotSplitter(fps=FPS, duplicates_seconds=1.0, detect_cuts=detect_cuts)
    verdicts = [v for n, f in enumerate(frames) for v in splitter.push(f, n, gap=n in gaps)]
    verdicts += splitter.flush()
    shots, dropped = [], {}
    for verdict in verdicts:
        if verdict.dropped:
            dropped.setdefault(verdict.dropped, []).append(verdict.item)
        elif verdict.starts_shot:
            shots.append([verdict.item])
        else:
            shots[-1].append(verdict.item)
    assert sorted(n for numbers in (*shots, *dropped.values()) for n in numbers) == list(range(len(frames)))
    return shots, dropped


@pytest.mark.parametrize("cut", [1, 2, 3, 30, 57, 58, 59])
def test_a_cut_is_found_where_it_is_also_at_the_ends(cut):
    shots, dropped = judge(scene(cut, 1) + scene(60 - cut, 2))
    assert [shot[0] for shot in shots] == [0, cut]
    assert not dropped


def test_motion_is_no_cut():
    assert len(judge(scene(60, 3))[0]) == 1


def test_cuts_are_ignored_on_request_and_lost_footage_is_not():
    assert len(judge(scene(20, 1) + scene(20, 2), detect_cuts=False)[0]) == 1
    shots, _ = judge(scene(40, 1), detect_cuts=False, gaps={25})
    assert [shot[0] for shot in shots] == [0, 25]


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length):
    frames = scene(40, 4)
    for n in range(20, 20 + length):
        frames[n] = np.full_like(frames[n], 255)
    assert len(judge(frames)[0]) == 1


def test_a_freeze_keeps_its_first_second_and_leaves_the_shot_whole():
    moving = scene(40, 5)
    frames = moving[:20] + [moving[19]] * 100 + moving[20:]
    shots, dropped = judge(frames)
    assert len(shots) == 1
    assert dropped == {"duplicate": list(range(29, 120))}  # frame 19 and nine more are one second


def test_a_short_standing_still_survives():
    moving = scene(40, 5)
    assert judge(moving[:20] + [moving[19]] * 8 + moving[20:])[1] == {}


def test_a_small_thing_that_moves_is_no_freeze():
    frames = [BLACK + 90 for _ in range(60)]
    for n, frame in enumerate(frames):
        frame[30:32, n : n + 2] = 255
    assert judge(frames)[1] == {}


def test_a_slow_game_in_a_fast_film_has_no_cuts():
    drawn = moving_square(30, width=64, height=64, seed=6, speed=9)
    shots, _ = judge([frame for frame in drawn for _ in range(3)])
    assert len(shots) == 1


def test_black_frames_are_dropped_and_split_the_shot():
    frames = scene(40, 7)
    shots, dropped = judge(frames[:20] + [BLACK] * 5 + frames[20:])
    assert [shot[0] for shot in shots] == [0, 25]
    assert dropped == {"black": [20, 21, 22, 23, 24]}


def test_a_dark_scene_with_something_in_it_is_not_black():
    frames = [BLACK.copy() for _ in range(30)]
    for n, frame in enumerate(frames):
        frame[n : n + 4, 20:24] = 120
    assert judge(frames)[1] == {}


def test_memory_is_bounded_during_a_long_freeze():
    splitter = ShotSplitter(fps=FPS, duplicates_seconds=1.0, detect_cuts=True)
    frame = scene(1, 0)[0]
    for n in range(2000):
        list(splitter.push(frame, n))
    assert len(splitter._pending) <= 3 * FPS


def ticks(times, **options):
    return [(item, repeats) for item, repeats in resample([(t, n) for n, t in enumerate(times)], **options)]


def test_a_whole_divisor_takes_every_nth_frame_despite_rounded_timestamps():
    times = [round(n / 30, 3) for n in range(60)]
    assert ticks(times, rate=15, source_rate=30) == [(n, False) for n in range(0, 60, 2)]


def test_the_own_rate_takes_every_frame():
    times = [round(n / 24, 3) + 5.0 for n in range(48)]
    assert ticks(times, rate=24, source_rate=24) == [(n, False) for n in range(48)]


def test_a_varying_rate_shows_what_is_on_the_screen():
    assert ticks([0.0, 0.05, 0.35, 0.4], rate=10, source_rate=20) == [
        (0, False),
        (1, False),
        (1, True),
        (1, True),
        (3, False),
    ]


def test_a_hole_is_bridged_for_a_bounded_time():
    shown = ticks([0.0, 0.1, 100.0, 100.1], rate=10, source_rate=10, max_hold=1.0)
    assert [item for item, _ in shown] == [0] + [1] * 10 + [2, 3]


@pytest.mark.parametrize(("source", "expected"), [(60.0, 15.0), (10.0, 10.0), (15.0, 15.0)])
def test_the_rate_is_an_upper_bound(source, expected):
    assert output_rate(source, 15.0) == expected


def letterboxed(top, left):
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(8):
        picture = rng.integers(0, 12, (90, 160, 3), np.uint8)
        picture[top : 90 - top, left : 160 - left] = rng.integers(60, 255, (90 - 2 * top, 160 - 2 * left, 3))
        pictures.append(picture)
    return pictures


@pytest.mark.parametrize(("top", "left"), [(10, 0), (0, 20), (8, 16)])
def test_letterbox_bars_are_found(top, left):
    assert find_content(letterboxed(top, left)) == (left, top, 160 - 2 * left, 90 - 2 * top)


def test_a_full_picture_and_a_dark_scene_have_no_bars():
    assert find_content(letterboxed(0, 0)) is None
    dark = [np.zeros((90, 160, 3), np.uint8) for _ in range(8)]
    for n, picture in enumerate(dark):
        cv2.circle(picture, (35 + 12 * n, 20 + 7 * n), 10, (200, 200, 200), -1)
    assert find_content(dark) is None


def test_framings_take_the_region_they_name():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200
    assert make_framing(80, 40, size=16, crop="center", content=None).apply(picture).min() == 200
    fit = make_framing(80, 40, size=16, crop="fit", content=None).apply(picture)
    assert fit[:4].max() == 0
    assert fit[-4:].max() == 0
    assert fit[8, 8, 0] == 200
    assert make_framing(80, 40, size=16, crop="20,0,40,30", content=None).apply(picture).min() == 200
    assert make_framing(80, 40, size=16, crop="center", content=(60, 0, 20, 40)).apply(picture).max() == 0


def test_pixels_that_are_not_square_are_taken_into_account():
    framing = make_framing(720, 576, size=64, crop="center", content=None, aspect=16 / 11)
    assert framing.box[3] == 576
    assert framing.box[2] == round(576 * 11 / 16)


@pytest.mark.parametrize("crop", ["left", "1,2,3", "0,0,0,5", "-1,0,5,5"])
def test_a_crop_that_makes_no_sense_is_refused(crop):
    with pytest.raises(Exception, match="--crop"):
        parse_crop(crop)
