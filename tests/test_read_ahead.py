"""Reading ahead: the same batches as without it, in any order of asking, and errors where they belong."""

import threading

import numpy as np
import pytest

from train.read_ahead import ReadAhead


class _Reader:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int, str]] = []
        self.threads: set[int] = set()
        self.fails_at: int | None = None

    def __call__(self, step: int, size: int, stream: str) -> np.ndarray:
        self.calls.append((step, size, stream))
        self.threads.add(threading.get_ident())
        if step == self.fails_at:
            raise OSError("the disk is gone")
        return np.full(size, 10 * step + len(stream))


def test_every_order_of_steps_sizes_and_streams_gives_what_reading_gives() -> None:
    ahead, plain = ReadAhead(_Reader()), _Reader()
    asked = [(0, 3, "a"), (1, 3, "a"), (1, 3, "bb"), (2, 3, "a"), (2, 3, "bb"), (7, 3, "a"), (7, 3, "a"), (8, 2, "a")]
    for step, size, stream in asked:
        np.testing.assert_array_equal(ahead.take(step, size, stream), plain(step, size, stream))


def test_following_steps_are_read_once_each_and_in_another_thread() -> None:
    reader = _Reader()
    ahead = ReadAhead(reader, depth=2)
    for step in range(4):
        ahead.take(step, 2, "a")
        ahead.take(step, 2, "b")
    read = [call for call in reader.calls if call[0] < 4]
    assert sorted(read) == [(step, 2, stream) for step in range(4) for stream in "ab"]
    assert len(reader.threads) == 2  # the caller's, for the first steps alone, and the one that reads ahead


def test_an_error_reaches_the_step_that_asked_for_it() -> None:
    reader = _Reader()
    reader.fails_at = 1
    ahead = ReadAhead(reader)
    ahead.take(0, 2, "a")
    with pytest.raises(OSError, match="disk is gone"):
        ahead.take(1, 2, "a")
    assert ahead.take(2, 2, "a")[0] == 21
