"""The server as pages meet it: real sockets, many at once, slow ones, hostile ones."""

import asyncio
import base64
import gc
import json
import random
import time
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from typing import get_args
from urllib.parse import quote

import av
import numpy as np
import pytest
import websockets
import worlds
from playing import page, serving
from starlette.websockets import WebSocketDisconnect

from app.play import protocol
from app.play.access import is_loopback
from app.play.outbox import Closed, SocketChannel
from app.play.player import Player
from app.play.protocol import CUT, PROMPT, ClientMessage
from app.play.server import ServerConfig
from torch_bridge.world import World

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def world():
    made = World(*worlds.world_parts(fps=60.0), device="cpu")
    made.reset(made.prompts["00"])
    made.step(0)
    return made


@pytest.fixture(scope="module")
def server(world):
    with serving(world, ServerConfig(sessions=24)) as (port, app):
        yield port, app


@pytest.fixture
def port(server):
    return server[0]


@pytest.fixture(autouse=True)
def nobody_stays(server):
    """The server knows of no page once its test is over."""
    yield
    until = time.monotonic() + 20
    while players := server[1]._app.state.players:
        assert time.monotonic() < until, players
        time.sleep(0.01)


def fetch(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read(), answer.headers


async def settled(app, count):
    """Wait until the server knows of `count` pages."""
    async with asyncio.timeout(60):
        while len(app._app.state.players) != count:
            await asyncio.sleep(0.01)


def codes_shown(talking):
    return [frame.code for frame in talking.frames if not frame.flags & PROMPT]


async def test_plays_and_answers_to_keys(port, world):
    async with page(port) as talking:
        hello = talking.texts[0]
        assert [code["key"] for code in hello["world"]["codes"]] == list("12345678")
        assert [prompt["id"] for prompt in hello["prompts"]] == ["00", "01"]
        assert hello["rest"] is None
        assert hello["settings"]["temperature"] is None
        await talking.begin()
        assert talking.frames[0].flags & PROMPT
        await talking.say("hold", code=3, stamp=7)
        await talking.hear(lambda: len(talking.frames) > 6)
        assert set(codes_shown(talking)) == {3}
        assert talking.frames[-1].stamp == 7
        await talking.say("hold", code=5, stamp=8)
        await talking.hear(lambda: talking.frames[-1].code == 5)
        await talking.say("hold", code=None, stamp=9)
        await talking.say("codes")
        told = await talking.told("codes")
        codes = [code for code, count in told["actions"] for _ in range(count)]
        world.reset(world.prompts["00"])
        wanted = {step: worlds_jpeg(world.step(code)) for step, code in enumerate(codes, start=1)}
        shown = [frame for frame in talking.frames if frame.step in wanted and frame.step]
        assert len(shown) > 6
        assert all(frame.jpeg == wanted[frame.step] for frame in shown)


def worlds_jpeg(frame_HWC):
    from app.play.game import to_jpeg

    return to_jpeg(frame_HWC)


async def test_waits_while_nothing_is_held_and_rests_where_told(port):
    async with page(port) as talking:
        await talking.begin()
        await talking.say("ping", time=1.5)
        assert (await talking.told("pong"))["time"] == 1.5
        await asyncio.sleep(0.15)
        await talking.say("codes")
        assert (await talking.told("codes"))["step"] == 0
        await talking.say("rest", code=2)
        await talking.hear(lambda: len(talking.frames) > 3)
        assert set(codes_shown(talking)) == {2}
        await talking.say("play", on=False)
        await talking.told("state", 3)
        await talking.say("codes")
        before = (await talking.told("codes", 2))["step"]
        await talking.say("step", code=6)
        await talking.hear(lambda: talking.frames[-1].step == before + 1)
        assert talking.frames[-1].code == 6


async def test_rewind_cuts_and_a_link_gives_the_same_picture(port):
    async with page(port) as talking:
        await talking.begin(seed=5, settings={"noise_level": 0.1})
        await talking.say("hold", code=1, stamp=1)
        await talking.hear(lambda: talking.frames[-1].step >= 12)
        await talking.say("settings", noise_level=0.4)
        await talking.hear(lambda: talking.frames[-1].step >= 20)
        await talking.say("hold", code=None, stamp=2)
        await talking.say("snap")
        await talking.say("rewind", step=18)
        await talking.hear(lambda: talking.frames[-1].flags & CUT)
        cut = talking.frames[-1]
        await talking.say("codes")
        told = await talking.told("codes")
        assert (cut.step, told["step"], told["seed"], told["settings"]) == (18, 18, 5, {"noise_level": 0.1})
        assert [mark["settings"] for mark in told["marks"]] == [{"noise_level": 0.4}]
    async with page(port) as other:
        link = {key: told[key] for key in ("prompt", "seed", "actions", "settings", "marks")}
        await other.begin(jump=True, **link)
        assert [(frame.step, frame.jpeg) for frame in other.frames] == [(18, cut.jpeg)]
        await other.begin(**link)  # and the same as a film, at the speed of play
        await other.hear(lambda: other.frames[-1].step == 18)
        assert other.frames[-1].jpeg == cut.jpeg
        await asyncio.sleep(0.1)
        await other.say("codes")
        assert (await other.told("codes"))["step"] == 18  # it waits at the end


async def test_codes_come_in_parts_and_pictures_of_past_steps_when_asked_for(port):
    async with page(port) as talking:
        await talking.begin(actions=[[1, 4], [2, 3], [1, 2]])
        await talking.hear(lambda: talking.frames[-1].step >= 5)
        await talking.say("settings", noise_level=0.2)
        await talking.hear(lambda: talking.frames[-1].step == 9)
        for after in (0, 5, 9, 1000):
            await talking.say("codes", after=after)
        whole, rest, *none = [await talking.told("codes", number) for number in (1, 2, 3, 4)]
        codes = [code for code, count in whole["actions"] for _ in range(count)]
        assert codes == [1, 1, 1, 1, 2, 2, 2, 1, 1]
        assert (rest["after"], rest["actions"]) == (5, [[2, 2], [1, 2]])
        assert rest["marks"] == whole["marks"]
        assert [mark["settings"] for mark in whole["marks"]] == [{"noise_level": 0.2}]
        assert [(part["after"], part["actions"], part["marks"]) for part in none] == [(9, [], [])] * 2
        shown = {frame.step: frame.jpeg for frame in talking.frames}
        for number, step in enumerate(shown, start=1):
            await talking.say("picture", step=step)
            told = await talking.told("picture", number)
            assert (told["step"], base64.b64decode(told["jpeg"])) == (step, shown[step])
        await talking.say("picture", step=10)
        assert (await talking.told("refused"))["what"] == "picture"
    async with page(port) as talking:  # before any prompt
        for number, kind in enumerate(("picture", "rewind"), start=1):
            await talking.say(kind, step=0)
            assert (await talking.told("refused", number))["what"] == kind


async def test_a_tap_between_two_steps_counts(port):
    async with page(port) as talking:
        await talking.begin()
        await talking.say("hold", code=1, stamp=1)
        await talking.say("speed", factor=0.1)
        await talking.hear(lambda: len(talking.frames) > 2)
        await talking.say("hold", code=6, stamp=2)
        await talking.say("hold", code=1, stamp=3)
        await talking.say("hold", code=5, stamp=4)
        await talking.say("hold", code=None, stamp=5)
        await talking.hear(lambda: talking.frames[-1].code == 5)
        assert talking.frames[-1].stamp == 5
        assert [code for code in codes_shown(talking) if code != 1] == [5]  # the last key, once


async def test_a_key_ends_a_replay(port):
    async with page(port) as talking:
        await talking.begin(actions=[[1, 5000]])
        await talking.hear(lambda: len(talking.frames) > 4)
        await talking.say("hold", code=4, stamp=1)
        await talking.hear(lambda: talking.frames[-1].code == 4)
        assert any(text["type"] == "state" and text["led"] == 0 for text in talking.texts)


async def test_a_long_jump_can_be_left(port):
    async with page(port) as talking:
        await talking.say("start", prompt="00", actions=[[1, 20000]], jump=True)
        await talking.told("busy")
        await talking.begin(prompt="01")
        assert talking.frames[-1].step == 0 or talking.frames[-1].flags & CUT
        await talking.hear(lambda: talking.frames[-1].flags & PROMPT)


async def test_questions_end_no_jump_and_codes_come_in_bounded_parts(port, monkeypatch):
    monkeypatch.setattr(protocol, "CODES_AT_ONCE", 40)
    async with page(port) as talking:
        await talking.say("start", prompt="00", actions=[[1, 60], [2, 40]], jump=True)
        for after in (30, 70):
            await talking.say("codes", after=after)
        await talking.say("picture", step=100)
        await talking.told("picture")
        frame = await talking.hear(lambda: next((one for one in talking.frames if one.flags & CUT), None))
        assert frame.step == 100
        first, second = [text for text in talking.texts if text["type"] == "codes"]
        assert (first["step"], first["after"], first["actions"]) == (100, 30, [[1, 30], [2, 10]])
        assert second["actions"] == [[2, 30]]


async def test_the_truth_stands_beside(port):
    async with page(port) as talking:
        await talking.begin(compare=True)
        started = next(text for text in talking.texts if text["type"] == "started")
        assert (started["frames"], started["truth"]) == (8, 8)
        await talking.hear(lambda: talking.frames[-1].step == 8)
        assert all(frame.truth for frame in talking.frames if frame.step)
        assert not talking.frames[0].truth


async def test_films(port, tmp_path):
    async with page(port) as talking:
        await talking.begin()
        await talking.say("hold", code=1, stamp=1)
        await talking.hear(lambda: talking.frames[-1].step >= 10)
        await talking.say("film", kind="mp4", first=3, last=9)
        film = await talking.told("film")
        data, headers = await asyncio.to_thread(fetch, port, film["path"])
        assert headers["content-type"] == "video/mp4"
        assert len(data) == film["bytes"]
        (tmp_path / "film.mp4").write_bytes(data)
        with av.open(str(tmp_path / "film.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == film["frames"] == 7
        await talking.say("film", kind="gif", first=0, last=4, overlay=False)
        assert (await talking.told("film", 2))["frames"] == 5
        await talking.say("film", kind="mp4", first=10**6, last=10**7)
        assert (await talking.told("refused"))["what"] == "film"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        await asyncio.to_thread(fetch, port, "/films/nothing.mp4")


async def test_an_upload_is_a_prompt(port):
    from test_play_uploads import image

    async with page(port) as talking:
        await talking.socket.send(image("PNG"))
        prompt = await talking.told("prompt")
        assert prompt["uploaded"]
        assert not prompt["again"]
        _, headers = await asyncio.to_thread(fetch, port, f"/prompts/{quote(prompt['id'])}.png")
        assert headers["content-type"] == "image/png"
        await talking.begin(prompt=prompt["id"])
        await talking.say("hold", code=0, stamp=1)
        await talking.hear(lambda: talking.frames[-1].step > 2)
        await talking.socket.send(b"nonsense")
        assert (await talking.told("refused"))["what"] == "upload"
        await talking.socket.send(image("PNG"))
        assert (await talking.told("prompt", 1))["again"]
        await talking.say("drop", prompt=prompt["id"])
        await talking.say("start", prompt=prompt["id"])
        assert "no such prompt" in (await talking.told("refused", 2))["reason"]


async def test_nothing_tells_a_player_of_the_files_of_another(port):
    from test_play_uploads import image

    async with page(port) as one, page(port) as two:
        told = []
        for talking in (one, two):
            await talking.socket.send(image("PNG"))
            told.append(await talking.told("prompt"))
        assert told[0] == told[1]  # as if each were the first
        await two.say("drop", prompt=told[1]["id"])
        await one.begin(prompt=told[0]["id"])  # not taken from the other
        async with page(port) as third:
            assert not [prompt for prompt in third.texts[0]["prompts"] if prompt["uploaded"]]
            await third.say("drop", prompt=told[0]["id"])
            assert (await third.told("refused"))["what"] == "drop"
        await one.begin(prompt=told[0]["id"])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "hold", "code": 8, "stamp": 1}, "codes 0 to 7"),
        ({"type": "rest", "code": 99}, "codes 0 to 7"),
        ({"type": "start", "prompt": "nothing"}, "no such prompt"),
        ({"type": "start", "prompt": "00", "actions": [[9, 1]]}, "no code 9"),
        ({"type": "start", "prompt": "00", "settings": {"noise_level": 5}}, "noise_level"),
        ({"type": "settings", "temperature": 1}, "flow head"),
        ({"type": "rewind", "step": 100}, "no step 100"),
        ({"type": "snap"}, "Take a step first"),
        ({"type": "step"}, "No code is held"),
        ({"type": "drop", "prompt": "00"}, "no such uploaded"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
async def test_what_cannot_be_done_is_refused_and_nothing_ends(port, message, words):
    async with page(port) as talking:
        await talking.begin()
        await talking.socket.send(json.dumps(message))
        assert words in (await talking.told("refused"))["reason"]
        await talking.say("hold", code=1, stamp=1)
        await talking.hear(lambda: talking.frames[-1].step > 1)


async def test_twenty_players_at_once_each_have_their_own_world(server, world):
    port, app = server

    async def one(number):
        codes = [[number % 8, 3], [(number + 3) % 8, 4]]
        async with page(port) as talking:
            await talking.begin(prompt=("00", "01")[number % 2], seed=number, actions=codes)
            await talking.hear(lambda: talking.frames[-1].step == 7, seconds=60)
            return codes, talking.frames[-1].jpeg

    shown = await asyncio.gather(*(one(number) for number in range(20)))
    for number, (codes, jpeg) in enumerate(shown):
        world.reset(world.prompts[("00", "01")[number % 2]], seed=number)
        frames = world.rollout([code for code, count in codes for _ in range(count)])
        assert worlds_jpeg(frames[-1]) == jpeg
    await settled(app, 0)


async def test_more_than_the_places_are_sent_away_with_a_reason(server):
    port, app = server
    await settled(app, 0)
    async with AsyncExitStack() as pages:
        for _ in range(24):
            await pages.enter_async_context(page(port))
        with pytest.raises(websockets.ConnectionClosed) as caught:
            async with page(port):
                pass
        assert caught.value.rcvd.code == 1013
        assert "24 places" in caught.value.rcvd.reason
    await settled(app, 0)
    async with page(port) as talking:  # and there is room again
        await talking.begin()


async def test_a_slow_reader_gets_new_frames_and_no_queue(port):
    async with page(port) as slow, page(port) as quick:
        slow.draws = False
        await slow.begin()
        await quick.begin()
        for talking in (slow, quick):
            await talking.say("hold", code=1, stamp=1)
        await quick.hear(lambda: len(quick.frames) > 30)  # nobody waits for the slow one
        with pytest.raises(TimeoutError):
            await slow.hear(lambda: len(slow.frames) > 2, seconds=0.5)
        assert len(slow.frames) == 2  # in flight, and no more
        before = slow.frames[-1].step
        slow.draws = True
        await slow.say("ack", number=2)
        await slow.hear(lambda: len(slow.frames) == 3)
        assert slow.frames[-1].step > before + 5  # the newest, not the next


async def test_hostile_messages_end_their_own_page_alone(server):
    port, app = server
    rng = random.Random(0)
    alphabet = list('{}[]":,0123456789.-eE tfnul\\\x00\u20acpromtseadhlck')
    kinds = [get_args(one.model_fields["type"].annotation)[0] for one in get_args(ClientMessage)]
    values = [None, True, -1, 0, 3, 7, 8, 2**31, 2**64, 1.5, 1e308, "00", "", "x" * 300, [], [[1, 2]], {}, {"clamp": 1}]
    fields = ["prompt", "seed", "code", "stamp", "on", "factor", "step", "kind", "first", "last", "actions", "clamp"]

    def message():
        draw = rng.random()
        if draw < 0.3:
            return "".join(rng.choices(alphabet, k=rng.randrange(60)))
        if draw < 0.4:
            return bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
        chosen = {name: rng.choice(values) for name in rng.sample(fields, rng.randrange(4))}
        return json.dumps({"type": rng.choice(kinds), **chosen})

    async with page(port) as quiet:
        await quiet.begin(actions=[[1, 10_000]])
        sent, closings = 0, set()
        while sent < 10_000:
            try:
                async with websockets.connect(f"ws://127.0.0.1:{port}/play", max_size=None) as socket:
                    reading = asyncio.create_task(drain(socket))
                    while True:
                        await socket.send(message())
                        sent += 1
                        if reading.done():
                            closings.add(reading.result())
                            break
                        await asyncio.sleep(0)
            except websockets.ConnectionClosed as ending:
                closings.add(ending.rcvd.code if ending.rcvd else None)
            await quiet.hear(lambda: quiet.frames[-1].step >= 0)
        assert closings <= {1008, None}
        assert 1008 in closings
        count = len(quiet.frames)
        await quiet.hear(lambda: len(quiet.frames) > count + 3)
        assert set(codes_shown(quiet)) == {1}
    await settled(app, 0)
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is Player]


async def drain(socket):
    try:
        while True:
            await socket.recv()
    except websockets.ConnectionClosed as ending:
        return ending.rcvd.code if ending.rcvd else None


async def test_pages_that_vanish_are_no_fault_of_the_server(server, caplog):
    port, app = server
    for number in range(40):
        socket = await websockets.connect(f"ws://127.0.0.1:{port}/play", max_size=None)
        await socket.send(json.dumps({"type": "start", "prompt": "00", "actions": [[1, 10_000]]}))
        for _ in range(number % 5):
            await socket.recv()
        if number % 2:
            await socket.send("no message")  # the server is about to close by itself
        socket.transport.abort()
    await settled(app, 0)
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


async def test_a_page_that_vanishes_while_it_is_sent_something_has_left():
    class Vanished:
        async def send_text(self, _):
            raise WebSocketDisconnect(1006)

        send_bytes = send_text

    channel = SocketChannel(Vanished())
    for sending in (channel.send_text(""), channel.send_bytes(b"")):
        with pytest.raises(Closed) as caught:
            await sending
        assert caught.value.code is None


async def test_an_idle_page_is_sent_away(world):
    with serving(world, ServerConfig(idle_seconds=0.4)) as (port, _):
        async with page(port) as talking:
            await talking.begin(actions=[[1, 10_000]])
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await talking.hear(lambda: False, seconds=10)  # its acks do not count
            assert caught.value.rcvd.code == 4000


async def test_foreign_pages_and_names_are_refused(port):
    for origin in ("http://evil.example", "null", f"http://evil.example:{port}", "http://127.0.0.1:1"):
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with page(port, origin=origin):
                pass
        assert caught.value.response.status_code == 403
    with pytest.raises(urllib.error.HTTPError, match="403"):
        await asyncio.to_thread(fetch, port, "/", Host=f"evil.example:{port}")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        await asyncio.to_thread(fetch, port, "/static/..%2f..%2fprotocol.py")
    _, headers = await asyncio.to_thread(fetch, port, "/prompts/00.png", Host=f"localhost:{port}")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_with_a_token_nothing_answers_without(world):
    with serving(world, ServerConfig(token="s3cret")) as (port, _):
        for path in ("/prompts/00.png", "/prompts/00.png?token=other", "/films/x.mp4"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                await asyncio.to_thread(fetch, port, path)
        assert (await asyncio.to_thread(fetch, port, "/prompts/00.png?token=s3cret", Host="anything"))[0]
        with pytest.raises(websockets.InvalidStatus):
            async with page(port):
                pass
        async with page(port, "?token=s3cret") as talking:
            await talking.begin()


def test_loopback():
    assert is_loopback("127.0.0.1")
    assert is_loopback("[::1]")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("192.168.0.3")


def test_frames_are_what_the_header_says(world):
    from app.play.gallery import Gallery
    from app.play.game import Game
    from app.play.protocol import Settings, unpack

    game = Game(world)
    game.start(next(Gallery(world.prompts).own()), 0, Settings(), compare=True)
    packed = game.step(2).pack(3, 4)
    assert packed[1] == 0
    frame, number, wait = unpack(packed)
    assert (frame.step, frame.code, number, wait) == (1, 2, 3, 4)
    assert frame.truth
    assert np.frombuffer(frame.jpeg[:2], np.uint8).tolist() == [0xFF, 0xD8]
