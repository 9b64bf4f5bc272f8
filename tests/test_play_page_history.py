"""What the page keeps of a long game: one window with the server, codes told once, films within limits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browsers import PlayServer, require_browser
from PIL import Image
from visiting import Visit

from app.play import films, game, protocol
from app.play.about import LIMITS

require_browser()

KEPT = 30  # steps
GIF = 12  # frames
REPLAY = 20  # steps
BLOCK = "{ const until = performance.now() + 400; while (performance.now() < until); }"
QUICK = 3  # the speed slider's place for 8x


@pytest.fixture
def visit(browser: Any, server: PlayServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """A page of a server with small limits, whose world goes on by itself."""
    monkeypatch.setattr(game, "FRAMES_KEPT", KEPT)
    monkeypatch.setattr(films, "GIF_FRAMES", GIF)
    for name, value in {"kept_steps": KEPT, "film_frames": KEPT, "gif_frames": GIF, "replay_steps": REPLAY}.items():
        monkeypatch.setitem(LIMITS, name, value)
    visit = Visit(browser, server.address)
    visit.page.select_option("#rest", "1")
    visit.page.focus("#stage")
    yield visit
    visit.close()


def told(visit: Visit) -> list[int]:
    return [text["step"] for text in visit.heard if text["type"] == "picture"]


def test_every_step_on_the_timeline_can_be_seen_and_branched_from(visit: Visit) -> None:
    visit.slide("speed", QUICK)
    visit.until(f"genie.state().step >= {KEPT + 10}")
    visit.page.evaluate(BLOCK)  # the server leaves frames out for a page that draws none
    visit.pause_at(KEPT + 30)
    visit.until("Number(document.getElementById('scrub').min) === genie.state().oldest")  # redrawn now and then
    oldest, last = visit.state()["oldest"], visit.state()["step"]
    assert oldest == last - KEPT
    kept = visit.page.evaluate("genie.kept()")
    assert min(kept) >= oldest
    left_out = [step for step in range(oldest + 1, last) if step not in kept]
    assert left_out
    for step in (left_out[-1], left_out[0], oldest):
        newest = visit.pixels()
        visit.scrub(step, ["input"])
        if step in left_out:
            visit.wait(lambda step=step: step in told(visit), f"the picture of step {step}")
        visit.page.wait_for_timeout(150)
        seen = visit.pixels()
        assert not np.array_equal(seen, newest)
        visit.scrub(step)
        visit.until(f"genie.state().step === {step}")
        visit.settle()
        np.testing.assert_array_equal(visit.pixels(), seen)
    assert visit.page.locator(".toast.fault").count() == 0
    visit.page.keyboard.down("3")
    visit.until(f"genie.state().step >= {oldest + 3}")
    visit.page.keyboard.up("3")
    assert int(visit.page.get_attribute("#scrub", "min")) == oldest  # what was forgotten does not come back


def test_codes_are_told_once_however_long_the_game(visit: Visit) -> None:
    visit.slide("speed", QUICK)
    for key in "123456":
        visit.page.keyboard.press(key)
        visit.page.wait_for_timeout(500)
    visit.pause_at(60)
    visit.page.keyboard.press(",")
    visit.until("genie.state().paused === 'rewind'")
    visit.settle()
    rewound = next(place for place, text in enumerate(visit.sent) if text["type"] == "rewind")
    asked = [text["after"] for text in visit.sent[rewound:] if text["type"] == "codes"]
    assert asked[0] == visit.sent[rewound]["step"]  # not beyond: the branch may be longer again meanwhile
    told = [text for text in visit.heard if text["type"] == "codes"]
    assert len(told) > 2
    counts = [sum(count for _, count in text["actions"]) for text in told]
    assert sum(counts) == visit.state()["step"] + 1  # the step that was gone back from was told too
    assert [text["after"] for text in told[:2]] == [0, counts[0]]
    visit.page.evaluate("genie.codes()")
    ours = visit.page.evaluate("genie.branch()")
    codes = [code for text in told for code, count in text["actions"] for _ in range(count)]
    assert [code for code, count in ours for _ in range(count)] == codes[: visit.state()["step"]]


def test_codes_in_many_parts_are_the_whole(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "CODES_AT_ONCE", 3)
    visit.until("genie.state().step >= 20")
    visit.tool("play")

    def counts() -> list[int]:
        return [sum(count for _, count in text["actions"]) for text in visit.heard if text["type"] == "codes"]

    visit.wait(lambda: not visit.state()["playing"] and sum(counts()) == visit.state()["step"], "all of the codes")
    assert max(counts()) == 3


BEYOND = """async () => {
  const { Branch } = await import("/static/branch.js");
  const branch = new Branch();
  const of = (after, actions) => branch.learn({ after, actions, settings: {}, marks: [] });
  const [first, beyond] = [of(0, [[1, 2]]), of(5, [[3, 4]])];
  return [first, beyond, branch.exact, branch.runs()];
}"""


def test_codes_after_a_step_that_is_not_known_are_not_learned(visit: Visit) -> None:
    assert visit.page.evaluate(BEYOND) == [True, False, 2, [[1, 2]]]


def test_a_game_too_long_for_a_replay_goes_on_from_its_last_picture(visit: Visit, server: PlayServer) -> None:
    visit.pause_at(REPLAY + 2)
    visit.tool("share")
    visit.page.wait_for_selector(".toast.fault")
    assert f"{REPLAY} steps at most" in visit.toasts()
    picture = visit.pixels().astype(int)
    server.stop()
    visit.until("genie.state().link === 'down'")
    server.start()
    visit.until("genie.state().link === 'live' && genie.state().prompt.startsWith('upload-') && genie.drawn()")
    assert "too many to be played again" in visit.toasts()
    assert visit.state()["step"] == 0
    assert np.abs(visit.pixels() - picture).mean() < 4  # a JPEG of a JPEG
    visit.complaints.clear()  # refused connections are told in the console, as they should be


def test_a_short_game_goes_on_where_it_was(visit: Visit, server: PlayServer) -> None:
    """Marks and codes up to a pause and during it are with the page, which nobody asked to fetch them."""
    visit.until("genie.state().step >= 5")
    visit.tool("play")
    visit.until("!genie.state().playing")
    visit.slide("knob-temperature", 1.5)
    visit.until("genie.state().settings.temperature === 1.5")
    visit.tool("once")
    visit.tool("snap")

    def told(temperature: float) -> bool:
        """Whether the last mark that the page heard of is the snap, with the settings that came last."""
        marks = [mark for text in visit.heard if text["type"] == "codes" for mark in text["marks"]]
        if not marks or not marks[-1]["snap"] or marks[-1]["step"] != visit.state()["step"]:
            return False
        return marks[-1].get("settings", {}).get("temperature", 1.5) == temperature

    visit.wait(lambda: told(1.5), "the snap")
    visit.slide("knob-temperature", 0.5)
    visit.wait(lambda: told(0.5), "the settings after it")
    visit.until("genie.drawn()")
    step, picture = visit.state()["step"], visit.pixels()
    server.stop()
    visit.until("genie.state().link === 'down'")
    server.start()
    visit.until(f"genie.state().link === 'live' && genie.state().busy === null && genie.state().step === {step}")
    visit.settle()
    np.testing.assert_array_equal(visit.pixels(), picture)
    again = [text for text in visit.sent if text["type"] == "start"][-1]
    assert [mark["step"] for mark in again["marks"]] == [step - 1, step]
    visit.complaints.clear()


def gif_frames(download: Any) -> int:
    assert download.value.suggested_filename.endswith(".gif")
    with Image.open(download.value.path()) as film:
        return film.n_frames


def test_a_recording_says_how_long_it_can_be_and_stops_there(visit: Visit) -> None:
    visit.page.select_option("#film-kind", "gif")
    with visit.page.expect_download() as download:
        visit.tool("record")
        assert f"{GIF} frames" in visit.toasts()
        assert visit.page.is_disabled("#film-kind")  # another kind would have another limit
        visit.until("genie.state().recording !== null")
        visit.until("genie.state().recording === null")
    assert gif_frames(download) == GIF
    assert visit.page.is_enabled("#film-kind")
    assert visit.page.get_attribute("#record", "aria-pressed") == "false"
    assert visit.page.locator(".toast.fault").count() == 0


def test_a_film_of_the_last_seconds_fits_its_kind(visit: Visit) -> None:
    visit.pause_at(GIF + 5)
    visit.page.select_option("#film-kind", "gif")
    with visit.page.expect_download() as download:
        visit.tool("last")
    assert gif_frames(download) == GIF
    assert visit.page.locator("#films img").count() == 1


def test_another_game_ends_a_recording_in_words(visit: Visit) -> None:
    visit.tool("record")
    visit.until("genie.state().recording !== null && genie.state().step > 2")
    visit.tool("reset")
    visit.until("genie.state().recording === null")
    assert "recording ended" in visit.toasts()
    assert visit.page.is_enabled("#film-kind")
