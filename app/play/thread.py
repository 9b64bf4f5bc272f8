"""The one thread that computes: worlds, frameworks and cores are shared, so steps of all players stand in one line."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class WorldThread:
    """Runs functions in their order of arrival. A player has one step in the line at a time, so all get their turn."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="world")

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """The function's result; its exception is raised here."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Wait for what runs, drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)
