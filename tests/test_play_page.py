"""The page of `genie play` in a real Chromium, against the real server and the bundled world."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from browsers import PlayServer, play_server, require_browser
from visiting import LIVE, TRANSFER, Visit, png

from app.play.server import STATIC
from app.worlds import BUNDLED
from torch_bridge.world import World

require_browser()

WATCH_BADGE = """() => {
  window.badges = [];
  const badge = document.getElementById("badge");
  new MutationObserver(() => window.badges.push(badge.textContent)).observe(badge, { childList: true });
}"""


@pytest.fixture(scope="module")
def server() -> Iterator[PlayServer]:
    server = play_server(World.load(BUNDLED))
    yield server
    server.stop()


@pytest.fixture
def visit(browser: Any, server: PlayServer) -> Iterator[Visit]:
    visit = Visit(browser, server.address)
    yield visit
    visit.close()


def test_it_loads_and_plays_by_itself_without_complaints_or_foreign_requests(visit: Visit, server: PlayServer) -> None:
    assert visit.state()["prompt"] == visit.state()["prompts"][0]["id"]
    visit.until("genie.state().step >= 3")
    assert visit.pixels().std() > 5
    assert visit.hosts == {f"127.0.0.1:{server.port}"}
    assert visit.page.is_visible("#hint")  # which keys to press
    assert visit.page.text_content("#title") == "tested"


def test_the_last_key_wins_and_releasing_returns_to_the_one_before(visit: Visit) -> None:
    pressed = "[...document.querySelectorAll('.action[aria-pressed=true]')].map((b) => Number(b.dataset.code)).join()"
    visit.page.keyboard.down("d")
    visit.until(f"{pressed} === '1' && genie.state().code === 1")
    visit.page.keyboard.down("a")
    visit.until(f"{pressed} === '4' && genie.state().code === 4")
    visit.page.keyboard.up("a")
    visit.until(f"{pressed} === '1' && genie.state().code === 1")
    visit.page.evaluate("window.dispatchEvent(new Event('blur'))")
    visit.until(f"{pressed} === '' && genie.state().held === null")
    visit.page.keyboard.down("ArrowLeft")  # stands for A
    visit.until(f"{pressed} === '4'")
    visit.page.keyboard.up("ArrowLeft")
    assert visit.page.is_hidden("#hint")
    visit.until("genie.stats().latency_ms > 0")


def test_a_tap_leads_a_step(visit: Visit) -> None:
    visit.until("genie.state().step >= 1")
    visit.page.keyboard.press("e")  # down and up at once
    visit.until("genie.branch().some(([code]) => code === 3)")
    assert visit.state()["held"] is None


def test_game_keys_rest_while_a_field_has_the_focus_and_escape_leaves_it(visit: Visit) -> None:
    visit.page.focus("#speed")
    visit.page.keyboard.down("d")
    assert visit.state()["held"] is None
    visit.page.keyboard.up("d")
    visit.page.keyboard.press("Escape")
    assert visit.page.evaluate("document.activeElement.id") == "stage"
    visit.page.keyboard.down("d")
    visit.until("genie.state().held === 1")
    visit.page.keyboard.up("d")


def test_pause_step_back_and_rewind_cut_the_branch(visit: Visit) -> None:
    visit.pause_at(6)
    step = visit.state()["step"]
    visit.page.keyboard.press(".")
    visit.until(f"genie.state().step === {step + 1}")
    visit.settle()
    assert visit.state()["step"] == step + 1  # paused indeed
    visit.page.keyboard.press(",")
    visit.until(f"genie.state().step === {step}")
    visit.scrub(2)
    visit.until("genie.state().step === 2")
    assert max(visit.page.evaluate("genie.kept()")) == 2
    assert sum(count for _, count in visit.page.evaluate("genie.branch()")) == 2
    visit.page.keyboard.down("a")  # branches from there
    visit.until("genie.state().step >= 5 && genie.state().playing")
    visit.page.keyboard.up("a")
    runs = visit.page.evaluate("genie.branch()")
    assert [code for code, count in runs for _ in range(count)][2:5] == [4, 4, 4]


def test_the_timeline_by_keyboard_looks_back_and_branches_on_enter(visit: Visit) -> None:
    visit.pause_at(4)
    step, newest = visit.state()["step"], visit.pixels()
    visit.page.focus("#scrub")
    for _ in range(3):
        visit.page.keyboard.press("ArrowLeft")
    visit.page.wait_for_timeout(300)
    assert not np.array_equal(visit.pixels(), newest)
    assert visit.state()["step"] == step  # only looked at
    visit.page.keyboard.press("Escape")
    visit.page.wait_for_timeout(300)
    np.testing.assert_array_equal(visit.pixels(), newest)
    visit.page.focus("#scrub")
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("Enter")
    visit.until(f"genie.state().step === {step - 1}")


def test_an_action_button_is_held_by_the_keyboard_and_by_a_screen_readers_click(visit: Visit) -> None:
    visit.page.focus(".action >> nth=4")
    visit.page.keyboard.down("Enter")
    visit.until("genie.state().held === 4")
    visit.page.keyboard.up("Enter")
    visit.until("genie.state().held === null")
    visit.page.evaluate("document.querySelectorAll('.action')[1].click()")
    visit.until("genie.state().held === 1")
    assert visit.page.get_attribute(".action >> nth=1", "aria-pressed") == "true"
    visit.page.evaluate("document.querySelectorAll('.action')[1].click()")
    visit.until("genie.state().held === null")
    assert visit.page.get_attribute(".action >> nth=1", "aria-pressed") == "false"


def test_dropped_and_pasted_pictures_become_prompts_and_survive_a_restart(visit: Visit, server: PlayServer) -> None:
    visit.drop(png((200, 40, 40)), "mine.png", "image/png")
    visit.until("genie.state().prompts.length === 9 && genie.state().prompt === genie.state().prompts[8].id")
    assert visit.state()["prompts"][8]["name"] == "mine.png"
    visit.page.evaluate(
        f"""(file) => {{
          const clipboardData = ({TRANSFER})(file);
          document.dispatchEvent(new ClipboardEvent("paste", {{ clipboardData }}));
        }}""",
        [base64.b64encode(png((40, 40, 200))).decode(), "mine.png", "image/png"],
    )
    visit.until("genie.state().prompts.length === 10 && genie.state().prompt === genie.state().prompts[9].id")
    visit.pause_at(5)
    before, picture = visit.state(), visit.pixels()
    server.stop()
    visit.until("genie.state().link === 'down'")
    assert "trying again" in visit.page.text_content("#link-state")
    server.start()
    visit.until("genie.state().link === 'live' && genie.state().busy === null && genie.state().prompts.length === 10")
    visit.until(f"genie.state().step === {before['step']}")
    visit.settle()
    assert visit.state()["prompt"] == before["prompt"]
    np.testing.assert_array_equal(visit.pixels(), picture)
    visit.complaints.clear()  # refused connections are told in the console, as they should be


def test_a_file_that_is_no_picture_is_refused_in_words(visit: Visit) -> None:
    before = visit.state()
    visit.page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"nothing of the kind"})
    visit.page.wait_for_selector(".toast.fault")
    assert visit.state()["prompt"] == before["prompt"]
    assert visit.state()["busy"] is None


def test_a_recording_is_a_film_of_the_steps_between(visit: Visit, tmp_path: Path) -> None:
    visit.pause_at(2)
    first = visit.state()["step"]
    visit.tool("record")
    assert visit.page.get_attribute("#record", "aria-pressed") == "true"
    visit.tool("play")
    visit.pause_at(first + 6)
    with visit.page.expect_download() as download:
        visit.tool("record")
    film = tmp_path / "film.mp4"
    download.value.save_as(film)
    with av.open(str(film)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == visit.state()["step"] - first + 1
    assert visit.page.get_attribute("#films a", "download") == "tested-1.mp4"


def test_a_link_replays_to_the_same_picture(visit: Visit, browser: Any, server: PlayServer) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.keyboard.down("d")
    visit.until("genie.state().step >= 4")
    visit.page.keyboard.up("d")
    visit.pause_at(7)
    visit.tool("share")
    visit.page.wait_for_selector(".toast")
    link = visit.page.evaluate("navigator.clipboard.readText()")
    other = Visit(browser, link)
    other.until(f"genie.state().step === {visit.state()['step']} && genie.state().led === 0")
    other.settle()
    np.testing.assert_array_equal(other.pixels(), visit.pixels())
    assert other.page.evaluate("genie.branch()") == visit.page.evaluate("genie.branch()")
    other.context.close()
    broken = Visit(browser, f"{server.address}#prompt=nowhere&seed=0&actions=1x2")
    assert "no such prompt" in broken.page.text_content(".toast.fault")
    broken.until("genie.state().prompt === genie.state().prompts[0].id")
    broken.context.close()


def test_a_comparison_shows_both_pictures_until_the_player_plays(visit: Visit) -> None:
    assert visit.page.is_visible("#hint")
    visit.page.evaluate(WATCH_BADGE)
    visit.tool("compare")
    visit.until("genie.state().truth > 0 && genie.state().step >= 2")
    assert visit.page.is_visible("#world")
    assert visit.page.is_visible("#truth")
    assert visit.page.is_hidden("#hint")  # it would lie on the captions
    ended = "genie.state().led === 0 && !genie.state().playing"
    visit.until(f"{ended} && genie.state().step === genie.state().truth")
    left = [text for text in visit.page.evaluate("badges") if text.startswith("Comparing: ")]
    assert len(set(left)) > 1  # they become fewer
    visit.page.keyboard.down("a")
    visit.until("genie.state().playing")
    visit.page.keyboard.up("a")
    assert visit.page.is_hidden("#truth")


def test_a_phone_holds_buttons_by_touch_and_scrolls_in_one_direction(browser: Any, server: PlayServer) -> None:
    phone = Visit(browser, server.address, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert phone.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    box = phone.page.locator(".action").nth(4).bounding_box()
    assert box["y"] + box["height"] <= 844  # within reach without scrolling
    assert min(box["width"], box["height"]) >= 44
    session = phone.context.new_cdp_session(phone.page)
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    phone.until("genie.state().held === 4 && genie.state().code === 4")
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    phone.until("genie.state().held === null")
    phone.close()


def test_every_control_has_a_name_and_the_help_lists_the_keys(visit: Visit) -> None:
    session = visit.context.new_cdp_session(visit.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "slider", "combobox", "checkbox", "link", "textbox", "application", "img"}
    found = [node for node in nodes if not node["ignored"] and node["role"]["value"] in controls]
    assert len(found) > 25
    assert [node["role"]["value"] for node in found if not node.get("name", {}).get("value", "").strip()] == []
    visit.page.keyboard.press("?")
    assert visit.page.is_visible("#help")
    assert "turn left" in visit.page.text_content("#help-actions")
    visit.page.keyboard.press("Escape")
    assert visit.page.is_hidden("#help")


def test_hidden_pages_pause_and_the_theme_is_kept(visit: Visit) -> None:
    visit.page.evaluate(
        """Object.defineProperty(document, 'hidden', { value: true, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'))"""
    )
    visit.until("!genie.state().playing && !document.getElementById('resume').hidden")
    visit.tool("resume")
    visit.until("genie.state().playing")
    before = visit.page.get_attribute("html", "data-theme")
    visit.tool("theme")
    visit.page.reload()
    visit.until(LIVE)
    assert visit.page.get_attribute("html", "data-theme") == {"dark": "light", "light": "dark"}[before]


def test_the_page_names_no_address_and_carries_no_inline_code() -> None:
    for file in STATIC.iterdir():
        text = file.read_text()
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    page = (STATIC / "index.html").read_text()
    assert " style=" not in page
    assert "<script>" not in page
    assert " on" not in page.replace(" once", "").replace(" one", "").split("<body>")[0]
