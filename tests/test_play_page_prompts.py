"""Prompts that a person brings: a short video with its true continuation beside, a picture from the clipboard."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest
from browsers import PlayServer, require_browser
from PIL import Image
from visiting import Visit, png

require_browser()

FRAMES = 12
TRUTH = "document.getElementById('truth').toDataURL('image/png')"
COPY = """async (data) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  await navigator.clipboard.write([new ClipboardItem({ "image/png": new Blob([bytes], { type: "image/png" }) })]);
}"""


@pytest.fixture
def visit(browser: Any, server: PlayServer) -> Iterator[Visit]:
    visit = Visit(browser, server.address)
    yield visit
    visit.close()


def test_a_dropped_video_is_a_prompt_with_its_true_continuation_beside(visit: Visit, tmp_path: Path) -> None:
    clip = np.stack([np.full((64, 64, 3), 10 + 20 * level, np.uint8) for level in range(FRAMES)])
    media.write_video(tmp_path / "clip.mp4", list(clip), fps=12)
    visit.drop((tmp_path / "clip.mp4").read_bytes(), "clip.mp4", "video/mp4")
    visit.until("genie.state().prompt.startsWith('upload-') && genie.drawn()")
    prompt = visit.state()["prompts"][-1]
    assert (prompt["name"], prompt["frames"], prompt["uploaded"]) == ("clip.mp4", FRAMES, True)
    assert visit.page.is_hidden("#drop")
    assert f"{FRAMES} frames" in visit.page.text_content(f".prompt[data-prompt={prompt['id']}]")
    assert nearest(visit.pixels(), clip) == FRAMES - 1
    visit.tool("compare")
    visit.until("genie.state().comparing && genie.state().step >= 1")
    assert visit.state()["truth"] == FRAMES // 2
    assert visit.page.is_visible("#truth")
    world, truth = (visit.page.locator(f"#{name}").bounding_box() for name in ("world", "truth"))
    assert (world["y"], world["width"]) == (truth["y"], truth["width"])  # side by side, of one size
    assert world["x"] + world["width"] <= truth["x"]
    visit.until(f"!genie.state().playing && genie.state().step === {FRAMES // 2} && genie.drawn()")
    data = visit.page.evaluate(TRUTH).split(",")[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert nearest(shown, clip) == FRAMES - 1


def nearest(shown: np.ndarray, clip: np.ndarray) -> int:
    """The frame of the clip that is shown, by way of a video and a JPEG: each has a grey of its own."""
    return int(np.abs(shown.mean() - clip.mean((1, 2, 3))).argmin())


def test_a_picture_of_the_clipboard_is_pasted_by_its_key(visit: Visit) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.evaluate(COPY, base64.b64encode(png((40, 200, 40))).decode())
    visit.page.focus("#stage")
    visit.page.keyboard.press("Control+v")
    visit.until("genie.state().prompt.startsWith('upload-') && genie.drawn()")
    assert visit.pixels()[16, 2].tolist() == pytest.approx([40, 200, 40], abs=6)
    visit.tool("share")
    visit.until("[...document.querySelectorAll('.toast')].some((one) => one.textContent.includes('link'))")
    assert "shows your file" in visit.toasts()
    assert visit.state()["held"] is None  # V is no key of the game while Ctrl is down


def test_a_prompt_that_is_removed_is_gone_and_the_game_goes_on(visit: Visit) -> None:
    visit.drop(png((200, 200, 40)), "mine.png", "image/png")
    visit.until("genie.state().prompt.startsWith('upload-') && genie.drawn()")
    prompt = visit.state()["prompt"]
    visit.page.locator("#gallery .remove").click()
    visit.until("genie.state().prompts.length === 2")
    assert visit.page.locator("#gallery .prompt").count() == 2
    visit.page.keyboard.down("1")
    visit.until("genie.state().step >= 2")
    visit.page.keyboard.up("1")
    answer = visit.page.evaluate("(path) => fetch(path).then((one) => one.status)", f"/prompts/{prompt}.png")
    assert answer == 404
    visit.complaints.clear()  # the 404 is told in the console
