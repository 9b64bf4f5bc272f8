"""Clips, cuts and true actions: nothing straddles a cut, nothing is shifted by a frame."""

from pathlib import Path

import numpy as np
import pytest
from evaluate_fakes import MemoryStore, make_store, spans_of

from train.errors import UserError
from train.evaluate.clips import choose_clips
from train.evaluate.context import pieces
from train.evaluate.truth import TrueActions, actions_of_kept, load_actions, split_at_cuts


def small_store(frames: int, source_index: np.ndarray | None = None) -> MemoryStore:
    return MemoryStore(np.zeros((frames, 8, 8, 3), np.uint8), [(0, frames)], source_index=source_index)


@pytest.mark.parametrize("lengths", [(100, 17, 90, 5), (40, 30, 33), (17,)])
def test_no_clip_straddles_a_cut(lengths: tuple[int, ...]) -> None:
    shots = spans_of(lengths)
    clips = choose_clips(small_store(sum(lengths)), shots, 50)
    assert len(clips) >= 1
    for start in clips.starts_N:
        assert any(a <= start and start + clips.prompt + clips.steps <= b for a, b in shots)


def test_enough_long_shots_give_64_steps_and_the_number_of_clips_asked_for() -> None:
    shots = [(i * 200, (i + 1) * 200) for i in range(20)]
    clips = choose_clips(small_store(4000), shots, 30)
    assert (clips.steps, len(clips), clips.overlapping) == (64, 30, False)
    assert len(np.unique(clips.starts_N)) == 30


def test_short_shots_give_fewer_steps_rather_than_few_clips() -> None:
    shots = [(i * 30, (i + 1) * 30) for i in range(40)]
    clips = choose_clips(small_store(1200), shots, 30)
    assert clips.steps == 12
    assert len(clips) == 30


def test_overlapping_clips_share_a_group() -> None:
    clips = choose_clips(small_store(300), [(0, 300)], 30)
    assert clips.overlapping
    assert len(np.unique(clips.groups_N)) < len(clips)


def test_batches_cover_every_clip_once_and_frames_are_the_clips() -> None:
    store, _ = make_store((100, 80))
    clips = choose_clips(store, store.shots, 7)
    rows = [i for chosen in clips.batches() for i in range(chosen.start, chosen.stop)]
    assert rows == list(range(len(clips)))
    first = clips.frames(slice(1, 2))[0]
    start = int(clips.starts_N[1])
    np.testing.assert_array_equal(first, store.frames[start : start + clips.prompt + clips.steps])


def test_a_video_without_a_long_shot_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="longest shot has 16 frames and a measure needs 17"):
        choose_clips(small_store(32), [(0, 16), (16, 32)], 4, subject="v.mp4")


def test_stretches_hold_every_transition_of_a_shot_once() -> None:
    shots = [(0, 130), (130, 131), (131, 150)]
    spans = list(pieces(shots, 64, 10_000))
    first = np.concatenate([np.arange(start, stop - 1) for _, start, stop in spans])
    expected = np.concatenate([np.arange(a, b - 1) for a, b in shots])
    np.testing.assert_array_equal(first, expected)
    assert sum(stop - start - 1 for _, start, stop in pieces(shots, 64, 40)) <= 42


def test_a_skipped_interval_takes_its_most_frequent_action() -> None:
    truth = TrueActions(np.array([0, 1, 1, 2, 2, 0, 3, 3, 3, 1]), np.zeros(0, np.int64))
    store = small_store(4, np.array([0, 3, 6, 9]))
    np.testing.assert_array_equal(actions_of_kept(store, truth), [1, 2, 3, 1])


def test_without_skipping_the_action_at_a_frame_leads_to_the_next() -> None:
    actions = np.array([3, 1, 0, 2, 2])
    kept = actions_of_kept(small_store(5), TrueActions(actions, np.zeros(0, np.int64)))
    np.testing.assert_array_equal(kept, actions)


def test_cuts_between_kept_frames_split_shots() -> None:
    store = small_store(6, np.array([0, 3, 6, 9, 12, 15]))
    cuts = np.array([0, 5, 9, 40])  # 5 lies between the frames 3 and 6 of the source, 9 begins with a kept frame
    assert split_at_cuts(store, [(0, 6)], cuts) == [(0, 2), (2, 3), (3, 6)]
    assert split_at_cuts(store, [(0, 2), (2, 6)], cuts) == [(0, 2), (2, 3), (3, 6)]


def test_actions_of_another_video_are_refused() -> None:
    with pytest.raises(UserError, match="it has 3 actions, but frame 4"):
        actions_of_kept(small_store(5), TrueActions(np.zeros(3, np.int64), np.zeros(0, np.int64), "a.npz"))


def test_bad_action_files_are_told_in_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", keys=np.arange(3))
    np.savez(tmp_path / "float.npz", actions=np.zeros(3))
    np.savez(tmp_path / "object.npz", actions=np.array([None, 1], object))
    np.save(tmp_path / "plain.npy", np.arange(3))
    (tmp_path / "text.npz").write_text("no archive")
    for name, fault in {
        "absent.npz": "no such file",
        "other.npz": "no array named `actions`",
        "float.npz": "`actions` is float64",
        "object.npz": "cannot be read",
        "plain.npy": "cannot be read",
        "text.npz": "cannot be read",
    }.items():
        with pytest.raises(UserError, match=fault):
            load_actions(tmp_path / name)


def test_actions_and_cuts_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", actions=np.array([1, 2, 3], np.uint8), cuts=np.array([2]), scenario="basic")
    truth = load_actions(tmp_path / "a.npz")
    np.testing.assert_array_equal(truth.actions, [1, 2, 3])
    np.testing.assert_array_equal(truth.cuts, [2])


@pytest.mark.parametrize(("longest", "steps"), [(256, 256), (200, 200), (40, 40), (400, 256)])
def test_the_longest_rollout_can_be_chosen_and_shots_bound_it(longest: int, steps: int) -> None:
    shots = [(i * 300, (i + 1) * 300) for i in range(8)]
    assert choose_clips(small_store(2400), shots, 8, longest=longest).steps == steps


def test_no_steps_are_refused() -> None:
    with pytest.raises(UserError, match="--steps: 0 steps cannot be measured"):
        choose_clips(small_store(100), [(0, 100)], 4, longest=0)
