"""A visit to the page of `genie play` in a real Chromium, with what it complained of and where it sent requests."""

import base64
import io
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

WAIT = 30_000  # ms
LIVE = "genie.state().link === 'live' && genie.state().prompt !== null && genie.stats().shown > 0"
SCRUB = """([step, kinds]) => {
  const scrub = document.getElementById("scrub");
  scrub.value = step;
  for (const kind of kinds) scrub.dispatchEvent(new Event(kind));
}"""
SLIDE = """([id, value]) => {
  const slider = document.getElementById(id);
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
}"""
PIXELS = "(() => { const c = document.getElementById('world'); return c.toDataURL('image/png'); })()"
TRANSFER = """([data, name, type]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  return transfer;
}"""


class Visit:
    """A page in a context of its own.

    Args:
        browser: of Playwright.
        address: of the page.
        greeted: wait until the game is on the screen.
        script: runs in the page before its own.
        options: of the context.
    """

    def __init__(
        self, browser: Any, address: str, *, greeted: bool = True, script: str | None = None, **options: Any
    ) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        self.context.set_default_timeout(WAIT)
        if script is not None:
            self.context.add_init_script(script)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.sent: list[dict[str, Any]] = []  # texts to the server and from it
        self.heard: list[dict[str, Any]] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.on("websocket", self._listen)
        self.page.goto(address)
        if greeted:
            self.until(LIVE)

    def _listen(self, socket: Any) -> None:
        self.hosts.add(socket.url.split("/")[2])
        socket.on("framesent", lambda data: self._keep(self.sent, data))
        socket.on("framereceived", lambda data: self._keep(self.heard, data))

    @staticmethod
    def _keep(texts: list[dict[str, Any]], data: str | bytes) -> None:
        if isinstance(data, str):
            texts.append(json.loads(data))

    def until(self, condition: str) -> None:
        """Asks again and again: Playwright's own way evaluates in the page, which the page's policy forbids."""
        self.wait(lambda: self.page.evaluate(condition), condition)

    def wait(self, wanted: Callable[[], Any], what: str) -> None:
        """Until a function says yes."""
        deadline = time.monotonic() + WAIT / 1000
        while not wanted():
            assert time.monotonic() < deadline, f"{what}: {self.state()}"
            self.page.wait_for_timeout(20)

    def state(self) -> dict[str, Any]:
        """What the page knows."""
        return self.page.evaluate("genie.state()")

    def pause_at(self, step: int) -> None:
        """Let it play until a step, then pause and wait for what is under way."""
        self.until(f"genie.state().step >= {step}")
        self.page.evaluate("genie.state().playing && document.getElementById('play').click()")
        self.settle()

    def settle(self) -> None:
        """Until the server stands where the page does, and the last frame is drawn."""
        self.until("!genie.state().playing")
        self.until("genie.codes().then(({ step }) => step === genie.state().step && genie.drawn())")

    def pixels(self) -> np.ndarray:
        """The picture on the screen, uint8 (H, W, 3)."""
        url = self.page.evaluate(PIXELS)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))

    def tool(self, name: str) -> None:
        """Click a button."""
        self.page.click(f"#{name}")

    def scrub(self, step: int, kinds: Sequence[str] = ("input", "change")) -> None:
        """Drag the timeline to a step; without "change" it is not let go."""
        self.page.evaluate(SCRUB, [step, kinds])

    def slide(self, slider: str, value: float) -> None:
        """Move a slider."""
        self.page.evaluate(SLIDE, [slider, value])

    def drop(self, data: bytes, name: str, kind: str) -> None:
        """Drop a file on the picture."""
        transfer = self.page.evaluate_handle(TRANSFER, [base64.b64encode(data).decode(), name, kind])
        for event in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event("#stage", event, {"dataTransfer": transfer})

    def toasts(self) -> str:
        """All short messages on the page."""
        return " ".join(self.page.locator(".toast span").all_text_contents())

    def close(self) -> None:
        """Leave; the page must not have complained."""
        assert self.complaints == []
        self.context.close()


def png(colour: tuple[int, int, int]) -> bytes:
    """A picture."""
    out = io.BytesIO()
    pixels = np.full((80, 120, 3), colour, np.uint8)
    pixels[20:60, 30:50] = 255 - pixels[20:60, 30:50]
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
