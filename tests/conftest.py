"""Settings of all tests, made before any framework is imported.

`make test` runs a worker on each core: a second thread in every worker would only wait for the others, at many times
the cost. No test may reach a network.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GENIE_CACHE", os.devnull)  # nothing is kept in the user's folder


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
