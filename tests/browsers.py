"""A real Chromium for tests of the page, and a server of the bundled world that can be stopped and started again."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from app.play.server import ServerConfig, build_app
from torch_bridge.world import World

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def missing_browser() -> str | None:
    """Why no browser can be driven here, None where one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install playwright)"
    if not any(map(shutil.which, CHROMIUMS)):
        return f"there is none of {', '.join(CHROMIUMS)} (Debian: apt-get install chromium)"
    return None


def require_browser() -> None:
    """Skip where no browser can be driven, and say why; in CI (variable CI) that is a failure."""
    if (fault := missing_browser()) is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"The page's tests need a browser in CI: {fault}.", pytrace=False)
    pytest.skip(f"The page's tests need a browser: {fault}.", allow_module_level=True)


@contextmanager
def chromium() -> Iterator[Any]:
    """A Playwright browser."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, CHROMIUMS)))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class PlayServer:
    """The server in a thread of its own, on one port for all of its lives."""

    def __init__(self, world: World, name: str, config: ServerConfig | None = None) -> None:
        self._world, self._name, self._config = world, name, config
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        app = build_app(self._world, self._name, self._config)
        config = uvicorn.Config(app, port=self.port, log_level="warning", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
