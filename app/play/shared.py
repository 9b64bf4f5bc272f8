"""What the players of a server have in common."""

import asyncio
from dataclasses import dataclass, field

from app.play.films import Films
from app.play.gallery import Gallery
from app.play.thread import WorldThread
from torch_bridge.world import World

DECODING = 2  # uploads of all players at once


@dataclass(frozen=True)
class Shared:
    """What all players of a server have in common."""

    world: World
    name: str
    thread: WorldThread
    gallery: Gallery
    films: Films
    idle_seconds: float
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(DECODING))
