"""Hands on the page: gamepad, fingers, sliders, the whole screen, and worlds of very many actions on a phone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import worlds
from browsers import PlayServer, play_server, require_browser
from visiting import Visit

from torch_bridge.world import World

require_browser()

CROUCH, LEFT, RIGHT, UP, JUMP = range(5)  # of the small world
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
REST = """(code) => {
  document.getElementById("rest").value = code;
  document.getElementById("rest").dispatchEvent(new Event("change"));
}"""
PAD = """
const button = () => ({ pressed: false, touched: false, value: 0 });
window.pad = { index: 0, id: "stub", connected: true, axes: [0, 0, 0, 0], buttons: Array.from({ length: 17 }, button) };
window.pads = [window.pad];
navigator.getGamepads = () => window.pads;
"""


@pytest.fixture
def visit(browser: Any, server: PlayServer) -> Iterator[Visit]:
    visit = Visit(browser, server.address)
    visit.page.select_option("#rest", str(CROUCH))
    visit.page.focus("#stage")
    yield visit
    visit.close()


@pytest.fixture
def phone(browser: Any, server: PlayServer) -> Iterator[Visit]:
    visit = Visit(browser, server.address, **PHONE)
    visit.page.evaluate(REST, str(CROUCH))  # without scrolling there
    yield visit
    visit.close()


def test_a_gamepad_moves_acts_and_pauses(browser: Any, server: PlayServer) -> None:
    visit = Visit(browser, server.address, script=PAD)
    visit.page.evaluate("window.dispatchEvent(new Event('gamepadconnected'))")
    held = "genie.state().held === {0} && (genie.state().code === {0} || {0} === null)"

    def press(number: int, pressed: bool) -> None:
        visit.page.evaluate(f"pad.buttons[{number}].pressed = {str(pressed).lower()}")

    visit.page.evaluate("pad.axes = [-0.9, 0.1, 0, 0]")  # the stick
    visit.until(held.format(LEFT))
    press(15, True)  # the cross, last pressed
    visit.until(held.format(RIGHT))
    press(15, False)
    visit.until(held.format(LEFT))
    visit.page.evaluate("pad.axes = [0.2, -0.3, 0, 0]")  # within its dead zone
    visit.until(held.format("null"))
    press(JUMP, True)
    visit.until(held.format(JUMP))
    press(JUMP, False)
    visit.until(held.format("null"))
    press(9, True)  # Start
    visit.until("!genie.state().playing")
    visit.page.wait_for_timeout(100)  # held down, it pauses once
    assert not visit.state()["playing"]
    press(9, False)
    visit.page.wait_for_timeout(50)
    press(9, True)
    visit.until("genie.state().playing")
    press(12, True)
    visit.until(held.format(UP))
    visit.page.evaluate("window.pads = [null]")  # unplugged
    visit.until(held.format("null"))
    visit.close()


class Fingers:
    """Touches as the browser's own events."""

    def __init__(self, visit: Visit) -> None:
        self._session = visit.context.new_cdp_session(visit.page)
        self._visit = visit

    def on(self, number: int) -> dict[str, float]:
        """The middle of the button of an action."""
        box = self._visit.page.locator(".action").nth(number).bounding_box()
        return {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}

    def touch(self, kind: str, *points: dict[str, float]) -> None:
        """ "Start", "Move" or "End", with the fingers that are down then."""
        named = [{**point, "id": number} for number, point in enumerate(points)]
        self._session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": named})


def test_fingers_and_keys_are_one_stack_and_a_slipping_finger_holds(phone: Visit) -> None:
    fingers = Fingers(phone)
    phone.page.keyboard.down("a")
    phone.until(f"genie.state().held === {LEFT}")
    first, second = fingers.on(JUMP), fingers.on(RIGHT)
    fingers.touch("Start", first)
    phone.until(f"genie.state().held === {JUMP} && genie.state().code === {JUMP}")
    assert phone.page.get_attribute(f".action >> nth={JUMP}", "aria-pressed") == "true"
    fingers.touch("Start", first, second)
    phone.until(f"genie.state().held === {RIGHT} && genie.state().code === {RIGHT}")
    fingers.touch("Move", first, {"x": second["x"], "y": second["y"] - 200})
    phone.page.wait_for_timeout(100)
    assert phone.state()["held"] == RIGHT
    assert phone.page.evaluate("scrollY") == 0
    fingers.touch("End")
    phone.until(f"genie.state().held === {LEFT}")
    phone.page.keyboard.up("a")
    phone.until("genie.state().held === null")


def test_a_phone_pauses_and_steps_by_touch(phone: Visit) -> None:
    phone.until("genie.state().step >= 2")
    phone.page.tap("#play")
    phone.settle()
    step = phone.state()["step"]
    phone.page.tap("#once")
    phone.until(f"genie.state().step === {step + 1}")
    phone.page.tap("#back")
    phone.until(f"genie.state().step === {step}")
    assert not phone.state()["playing"]


def picture_of(visit: Visit, step: int) -> np.ndarray:
    """The picture of a step of a game begun anew, led by one key."""
    visit.page.select_option("#rest", str(RIGHT))
    visit.tool("reset")
    visit.until("genie.state().step < 3")
    visit.pause_at(step + 1)
    visit.scrub(step, ["input"])
    visit.page.wait_for_timeout(150)
    pixels = visit.pixels()
    visit.page.focus("#scrub")
    visit.page.keyboard.press("Escape")
    visit.tool("play")
    return pixels


@pytest.mark.parametrize(("name", "value"), [("temperature", 2.0), ("noise_level", 0.6)])
def test_a_slider_reaches_the_server_and_changes_the_frames(visit: Visit, name: str, value: float) -> None:
    before = picture_of(visit, 6)
    np.testing.assert_array_equal(picture_of(visit, 6), before)
    visit.slide(f"knob-{name}", value)
    visit.until(f"genie.state().settings.{name} === {value}")
    told = [text for text in visit.sent if text["type"] == "settings"]
    assert told[-1][name] == value
    assert all(text[other] is None for text in told for other in text if other not in ("type", name))
    assert visit.page.locator("label.slider", has=visit.page.locator(f"#knob-{name}")).inner_text().count(f"{value:g}")
    assert not np.array_equal(picture_of(visit, 6), before)
    visit.tool("own")
    visit.until(f"genie.state().settings.{name} !== {value}")
    np.testing.assert_array_equal(picture_of(visit, 6), before)
    assert visit.page.is_hidden("#own")


def test_the_speed_slider_reaches_the_server(visit: Visit) -> None:
    visit.slide("speed", -3)
    visit.until("genie.state().speed === 0.125")
    assert visit.page.text_content("#speed-value").startswith("0.13")
    assert [text["factor"] for text in visit.sent if text["type"] == "speed"] == [0.125]
    step = visit.state()["step"]
    visit.page.wait_for_timeout(1000)  # 12 steps at the world's own speed
    assert visit.state()["step"] - step <= 4


def test_the_servers_own_times_stand_at_the_frame_rate_and_a_snap_is_told(visit: Visit) -> None:
    visit.until("genie.stats().step_ms > 0 && genie.stats().sent_ms >= genie.stats().step_ms")
    visit.until("document.getElementById('fps').parentElement.title.includes('until it is sent')")
    assert visit.toasts() == ""
    visit.tool("snap")
    visit.page.wait_for_selector(".toast")
    assert "as the encoder sees it" in visit.toasts()


def test_the_whole_screen_is_the_world_and_keys_still_play(visit: Visit) -> None:
    visit.tool("full")
    visit.until("document.fullscreenElement !== null")
    assert visit.page.evaluate("document.fullscreenElement.id") == "stage"
    side = visit.page.locator("#world").bounding_box()
    assert min(side["width"], side["height"]) > 700  # of 800
    visit.page.keyboard.down("a")
    visit.until(f"genie.state().code === {LEFT}")
    visit.page.keyboard.up("a")
    visit.page.keyboard.press("Shift+F")  # F is a key of this world
    visit.until("document.fullscreenElement === null")


def test_sixty_four_actions_scroll_by_touch_and_are_held_by_a_finger_at_rest(browser: Any) -> None:
    server = play_server(World(*worlds.world_parts(count=64), device="cpu"))
    phone = Visit(browser, server.address, **PHONE)
    fingers = Fingers(phone)
    box = phone.page.locator("#actions").bounding_box()
    assert box["y"] + box["height"] <= 844
    assert phone.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    scrolled = "document.getElementById('actions').scrollTop"
    start = fingers.on(9)
    fingers.touch("Start", start)
    for way in range(20, 241, 20):
        fingers.touch("Move", {"x": start["x"], "y": start["y"] - way})
    phone.until(f"{scrolled} > 100")
    fingers.touch("End")
    assert [text for text in phone.sent if text["type"] == "hold"] == []  # a swipe plays nothing
    phone.page.locator(".action").nth(63).scroll_into_view_if_needed()
    fingers.touch("Start", fingers.on(63))
    phone.until("genie.state().held === 63 && genie.state().code === 63")
    fingers.touch("End")
    phone.until("genie.state().held === null")
    fingers.touch("Start", fingers.on(60))
    fingers.touch("End")  # a tap is a step too
    phone.until("genie.branch().some(([code]) => code === 60)")
    assert phone.state()["held"] is None
    fingers.touch("Start", fingers.on(60))
    phone.page.evaluate("window.dispatchEvent(new Event('blur'))")  # before the finger has come to rest
    phone.page.wait_for_timeout(200)
    assert phone.state()["held"] is None
    fingers.touch("End")
    phone.close()
    server.stop()
