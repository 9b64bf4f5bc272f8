"""The server as a page meets it: what it answers, what it shows, what it refuses."""

import asyncio
import base64
import json
import urllib.error
from urllib.parse import quote

import av
import numpy as np
import pytest
from playing import codes_shown, fetch, page

from app.play import protocol
from app.play.gallery import Gallery
from app.play.game import Game, to_jpeg
from app.play.protocol import CUT, PROMPT, Settings, unpack

pytestmark = pytest.mark.anyio


async def test_plays_and_answers_to_keys(port, fast_world):
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
        fast_world.reset(fast_world.prompts["00"])
        wanted = {step: to_jpeg(fast_world.step(code)) for step, code in enumerate(codes, start=1)}
        shown = [frame for frame in talking.frames if frame.step in wanted and frame.step]
        assert len(shown) > 6
        assert all(frame.jpeg == wanted[frame.step] for frame in shown)


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


def test_frames_are_what_the_header_says(fast_world):
    game = Game(fast_world)
    game.start(next(Gallery(fast_world.prompts).own()), 0, Settings(), compare=True)
    packed = game.step(2).pack(3, 4)
    assert packed[1] == 0
    frame, number, wait = unpack(packed)
    assert (frame.step, frame.code, number, wait) == (1, 2, 3, 4)
    assert frame.truth
    assert np.frombuffer(frame.jpeg[:2], np.uint8).tolist() == [0xFF, 0xD8]
