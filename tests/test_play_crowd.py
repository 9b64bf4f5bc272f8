"""Pages beside each other, and pages at the door: many at once, slow, hostile, vanished, idle, foreign."""

import asyncio
import gc
import json
import random
import urllib.error
from contextlib import AsyncExitStack
from typing import get_args

import pytest
import websockets
from playing import codes_shown, fetch, page, serving, settled
from starlette.websockets import WebSocketDisconnect

from app.play.access import is_loopback
from app.play.game import to_jpeg
from app.play.outbox import Closed, SocketChannel
from app.play.player import Player
from app.play.protocol import ClientMessage
from app.play.server import ServerConfig

pytestmark = pytest.mark.anyio


async def test_twenty_players_at_once_each_have_their_own_world(listening, fast_world):
    port, app = listening

    async def one(number):
        codes = [[number % 8, 3], [(number + 3) % 8, 4]]
        async with page(port) as talking:
            await talking.begin(prompt=("00", "01")[number % 2], seed=number, actions=codes)
            await talking.hear(lambda: talking.frames[-1].step == 7, seconds=60)
            return codes, talking.frames[-1].jpeg

    shown = await asyncio.gather(*(one(number) for number in range(20)))
    for number, (codes, jpeg) in enumerate(shown):
        fast_world.reset(fast_world.prompts[("00", "01")[number % 2]], seed=number)
        frames = fast_world.rollout([code for code, count in codes for _ in range(count)])
        assert to_jpeg(frames[-1]) == jpeg
    await settled(app, 0)


async def test_more_than_the_places_are_sent_away_with_a_reason(listening):
    port, app = listening
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


async def test_hostile_messages_end_their_own_page_alone(listening):
    port, app = listening
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


async def test_pages_that_vanish_are_no_fault_of_the_server(listening, caplog):
    port, app = listening
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


async def test_an_idle_page_is_sent_away(fast_world):
    with serving(fast_world, ServerConfig(idle_seconds=0.4)) as (port, _):
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


async def test_with_a_token_nothing_answers_without(fast_world):
    with serving(fast_world, ServerConfig(token="s3cret")) as (port, _):
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
