"""The protocol of live play: what is a message, what is none, and frames there and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.play import protocol
from app.play.protocol import FrameMessage, ProtocolError, codes_of, parse, runs_of, unpack

GOOD = [
    {"type": "start", "prompt": "a"},
    {"type": "start", "prompt": "a", "seed": 3, "actions": [[1, 2], [0, 1]], "jump": True, "settings": {"clamp": 3}},
    {
        "type": "start",
        "prompt": "a",
        "marks": [{"step": 3, "snap": True}, {"step": 4, "settings": {"noise_level": 0.1}}],
    },
    {"type": "hold", "code": None, "stamp": 0},
    {"type": "hold", "code": 3, "stamp": 12},
    {"type": "play", "on": False},
    {"type": "speed", "factor": 2},
    {"type": "step"},
    {"type": "rest", "code": None},
    {"type": "rewind", "step": 4},
    {"type": "settings", "noise_level": 0.2},
    {"type": "snap"},
    {"type": "film", "kind": "gif", "first": 0, "last": 9},
    {"type": "drop", "prompt": "a"},
    {"type": "codes"},
    {"type": "codes", "after": 12},
    {"type": "picture", "step": 3},
    {"type": "ack", "number": 2**32 - 1},
    {"type": "ping", "time": 1.5},
]
BAD = [
    "", "{", "[]", "null", "3", '"start"', "{}", '{"type": 3}', '{"type": "nothing"}', "[" * 60_000,
    '{"type": "hold", "code": 1.5, "stamp": 0}', '{"type": "hold", "code": true, "stamp": 0}',
    '{"type": "hold", "code": -1, "stamp": 0}', '{"type": "hold", "code": 1}',
    '{"type": "hold", "code": 1, "stamp": -1}',
    '{"type": "play", "on": 1}', '{"type": "speed", "factor": 0}', '{"type": "speed", "factor": NaN}',
    '{"type": "speed", "factor": 1e999}', '{"type": "step", "more": 1}',
    '{"type": "film", "kind": "exe", "first": 0, "last": 1}',
    '{"type": "start", "prompt": 3}', '{"type": "start", "prompt": "a", "seed": 2147483648}',
    '{"type": "start", "prompt": "a", "actions": [[1, 0]]}', '{"type": "start", "prompt": "a", "actions": [1]}',
    '{"type": "settings", "noise_level": "high"}', '{"type": "ack", "number": 4294967296}',
    '{"type": "start", "prompt": "' + "a" * 70_000 + '"}',
]  # fmt: skip


@pytest.mark.parametrize("message", GOOD, ids=lambda message: json.dumps(message)[:40])
def test_messages_are_read(message):
    read = parse(json.dumps(message))
    assert read.type == message["type"]
    assert read.model_dump(mode="json", exclude_unset=True) == message


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:40])
def test_what_is_no_message_is_refused_with_a_short_reason(text):
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    assert 3 < len(str(caught.value).encode()) <= 123  # what a closing frame holds


@given(
    st.text()
    | st.recursive(st.none() | st.floats() | st.text(), lambda x: st.dictionaries(st.text(), x)).map(json.dumps)
)
def test_any_text_is_a_message_or_refused(text):
    try:
        read = parse(text)
    except ProtocolError:
        return
    assert isinstance(read, protocol.Message)


@given(
    st.builds(
        FrameMessage,
        step=st.integers(0, 2**32 - 1),
        code=st.none() | st.integers(0, 63),
        flags=st.sampled_from([0, 1, 4, 8, 12]),
        jpeg=st.binary(),
        truth=st.none() | st.binary(min_size=1),
        stamp=st.integers(0, 2**32 - 1),
        step_us=st.integers(0, 2**32 - 1),
    ),
    st.integers(0, 2**32 - 1),
)
def test_frames_survive_the_way(frame, number):
    packed = frame.pack(number, 12)
    assert unpack(packed) == (frame, number, 12)
    with pytest.raises(ProtocolError):
        unpack(packed + b"x")


@given(st.lists(st.integers(0, 7)))
def test_runs_are_the_codes(codes):
    assert codes_of([tuple(run) for run in runs_of(codes)]) == codes


def test_a_replay_has_a_length():
    with pytest.raises(ValueError, match="too long"):
        codes_of([(0, protocol.MOST_ACTIONS), (1, 1)])
