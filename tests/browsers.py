"""A real Chromium for tests of the page, and a server of live play that can be stopped and started again."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import pytest
import worlds
from playing import serving

from app.commands.play import warm_up
from app.play.server import ServerConfig
from torch_bridge.manifest import Code
from torch_bridge.world import World

KEYS = {"crouch": "c", "left": "a", "right": "d", "up": "w", "jump": "e", "act": "f", "look": "x", "run": "z"}
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
    """Skip the module where no browser can be driven, and say why; in CI (variable CI) that is a failure."""
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
    """The server, on one port for all of its lives; `config` is that of its next one."""

    def __init__(self, world: World, config: ServerConfig | None = None) -> None:
        self._world, self.config, self._life = world, config, ExitStack()
        self.port, _ = self._life.enter_context(serving(world, config))

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        """End it, as Ctrl-C does."""
        self._life.close()

    def start(self) -> None:
        """Another server where the last one was."""
        self._life.enter_context(serving(self._world, self.config, self.port))


@cache
def small_world() -> World:
    """A world of random weights with every setting and named keys, which waits for a key; compiled once for all."""
    codes = tuple(Code(name, key, 1 / len(KEYS)) for name, key in KEYS.items())
    return World(*worlds.world_parts(head="flow", codes=codes), device="cpu")


def play_server(world: World) -> PlayServer:
    """A server of a world that is compiled: pages wait for nothing but their frames."""
    warm_up(world, steps=2)
    return PlayServer(world)
