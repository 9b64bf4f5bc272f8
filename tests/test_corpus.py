"""Draws of the corpus: deterministic, without replacement, inside shots, apart from what is held out."""

import itertools

import numpy as np
import pytest

from train.corpus import Corpus, clip_starts, split_shots
from train.errors import UserError
from train.ingest.store import FrameStore, Manifest, ShardWriter, SourceRecord, encode_frame

SHOTS = [[0, 30], [30, 41], [41, 43], [43, 90], [90, 100]]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """100 lossless frames of 8 px whose colour is their number."""
    folder = tmp_path_factory.mktemp("frames")
    writer = ShardWriter(folder, "k-k", shard_bytes=3000)
    for n in range(100):
        writer.write(encode_frame(np.full((8, 8, 3), n, np.uint8), lossless=True))
    writer.close()
    assert len(writer.shards) > 1
    np.save(folder / "k-k.npy", np.arange(0, 200, 2))
    record = SourceRecord("a", "0", 15.0, 30.0, [0, 0, 8, 8], 100, SHOTS, [], [], writer.shards, "k-k.npy")
    Manifest(8, "f", {}, [record]).save(folder)
    return FrameStore(folder)


def test_store_reads_any_order_across_shards(store):
    order = np.array([99, 0, 50, 50, 3])
    assert store.read(order)[:, 0, 0, 0].tolist() == order.tolist()
    assert store[-1][0, 0, 0] == 99
    assert store.source_index[7] == 14
    with pytest.raises(IndexError, match="100"):
        store.read([100])


def test_draws_are_a_function_of_seed_stream_and_step(store):
    one, two = Corpus(store, seed=3), Corpus(store, seed=3, memory_limit_mb=0)
    assert one.in_memory
    assert not two.in_memory
    for step in (0, 7, 1000):
        np.testing.assert_array_equal(one.batch(step, 8, stream="a"), two.batch(step, 8, stream="a"))
        np.testing.assert_array_equal(
            one.clip_indices(step, 4, 5, stream="a"), Corpus(store, seed=3).clip_indices(step, 4, 5, stream="a")
        )
    first = one.batch_indices(0, 32, stream="a")
    assert (first != one.batch_indices(0, 32, stream="b")).any()
    assert (first != one.batch_indices(1, 32, stream="a")).any()
    assert (first != Corpus(store, seed=4).batch_indices(0, 32, stream="a")).any()


def test_each_epoch_has_every_training_frame_once_in_another_order(store):
    corpus = Corpus(store, seed=0, holdout=0.1)
    count = len(corpus.train_indices)
    drawn = np.concatenate([corpus.batch_indices(step, 10, stream="a") for step in range(2 * count // 10)])
    first, second = drawn[:count], drawn[count : 2 * count]
    assert sorted(first) == sorted(second) == corpus.train_indices.tolist()
    assert (first != second).any()


@pytest.mark.parametrize("length", [1, 2, 5, 16])
def test_clips_never_straddle_cuts_nor_touch_held_out_frames(store, length):
    corpus = Corpus(store, seed=0, holdout=0.1)
    shot_of = np.searchsorted(store.shots[:, 0], np.arange(len(store)), side="right")
    clips = np.concatenate([corpus.clip_indices(step, 16, length, stream="a") for step in range(20)])
    assert (np.diff(clips, axis=1) == 1).all()
    assert (shot_of[clips] == shot_of[clips[:, :1]]).all()
    assert not np.isin(clips, corpus.heldout_indices).any()
    every = [n for a, b in corpus.train_shots for n in range(a, b) if n + length <= b]
    assert corpus.clip_starts(length).tolist() == every
    assert set(clips[:, 0]) == set(every)  # 320 draws cover every start more than once


def test_clips_longer_than_every_shot_are_refused(store):
    with pytest.raises(UserError, match="longest shot has 47"):
        Corpus(store, seed=0).clip_indices(0, 1, 48, stream="a")


@pytest.mark.parametrize(
    ("shots", "holdout", "train", "held"),
    [
        ([[0, 50], [50, 100], [100, 110]], 0.09, [[0, 50], [50, 100]], [[100, 110]]),
        ([[0, 100]], 0.1, [[0, 90]], [[90, 100]]),
        ([[0, 50], [50, 100]], 0.1, [[0, 50], [50, 90]], [[90, 100]]),
        ([[0, 10], [10, 13], [13, 20]], 0.5, [[0, 10]], [[10, 13], [13, 20]]),
        ([[0, 100]], 0.0, [[0, 100]], []),
        ([[0, 20], [20, 22]], 0.05, [[0, 20]], [[20, 22]]),
    ],
)
def test_shots_at_the_end_are_held_out(shots, holdout, train, held):
    got_train, got_held = split_shots(np.array(shots), holdout)
    assert got_train.tolist() == train
    assert got_held.tolist() == held


@pytest.mark.parametrize("count", [4, 5, 17, 60])
def test_a_split_loses_no_frame_and_leaves_shots_of_two(count):
    for cuts in itertools.combinations(range(2, count - 1, 3), 2):
        edges = [0, *cuts, count]
        shots = np.array([[a, b] for a, b in itertools.pairwise(edges)])
        if (shots[:, 1] - shots[:, 0]).min() < 2:
            continue
        train, held = split_shots(shots, 0.1)
        both = np.concatenate([train, held])
        assert (both[1:, 0] == both[:-1, 1]).all()
        assert both[0, 0] == 0
        assert both[-1, 1] == count
        assert (both[:, 1] - both[:, 0]).min() >= 2
        assert len(held) >= 1


def test_mean_frame_is_that_of_the_training_frames(store):
    corpus = Corpus(store, seed=0, holdout=0.1)
    assert corpus.mean_frame.dtype == np.float32
    np.testing.assert_allclose(corpus.mean_frame, corpus.train_indices.mean(), rtol=1e-6)


def test_read_keeps_the_shape_of_the_numbers(store):
    for limit in (0, 100):
        frames = Corpus(store, seed=0, memory_limit_mb=limit).read(np.array([[1, 2, 3], [7, 8, 9]]))
        assert frames.shape == (2, 3, 8, 8, 3)
        assert frames[1, 2, 0, 0, 0] == 9


def test_clip_starts_refuses_empty_clips():
    with pytest.raises(ValueError, match="at least 1"):
        clip_starts(np.array([[0, 5]]), 0)
