"""Settings of all tests, made before any framework is imported.

`make test` runs a worker on each core: a second thread in every worker would only wait for the others, at many times
the cost. No test may reach a network.
"""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GENIE_CACHE", os.devnull)  # nothing is kept in the user's folder

# What XLA compiles is kept for all workers, and for the commands that tests start; both have this from the environment.
# One may find a file that another is writing: JAX then warns and compiles.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="genie-tests-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium, for the tests of the page."""
    from browsers import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A `PlayServer` of the small world; a module with another one has a fixture of its own."""
    from browsers import play_server, small_world

    server = play_server(small_world())
    yield server
    server.stop()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What runs asynchronous tests."""
    return "asyncio"


@pytest.fixture(scope="module")
def fast_world() -> Any:
    """The small world at 60 frames a second, its steps compiled."""
    import worlds

    from torch_bridge.world import World

    made = World(*worlds.world_parts(fps=60.0), device="cpu")
    made.reset(made.prompts["00"])
    made.step(0)
    return made


@pytest.fixture(scope="module")
def served(fast_world: Any) -> Iterator[tuple[int, Any]]:
    """Port and ASGI application of a server of that world with 24 places."""
    from playing import serving

    from app.play.server import ServerConfig

    with serving(fast_world, ServerConfig(sessions=24)) as (port, app):
        yield port, app


@pytest.fixture
def listening(served: tuple[int, Any]) -> Iterator[tuple[int, Any]]:
    """`served`, which knows of no page once the test is over."""
    yield served
    until = time.monotonic() + 20
    while players := served[1]._app.state.players:
        assert time.monotonic() < until, players
        time.sleep(0.01)


@pytest.fixture
def port(listening: tuple[int, Any]) -> int:
    """Port of the server of `listening`."""
    return listening[0]
