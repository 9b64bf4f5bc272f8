"""What the page is told of a world: its codes, the settings that it has, their ranges; and of the server's limits."""

from collections.abc import Sequence
from typing import Any

from app.play.films import GIF_FRAMES
from app.play.game import FRAMES_KEPT
from app.play.protocol import MOST_ACTIONS
from app.play.uploads import UPLOAD_BYTES, UPLOAD_SECONDS
from torch_bridge.manifest import Code
from torch_bridge.world import World

RESTING = frozenset(
    {"stand", "stand still", "still", "stay", "noop", "no-op", "none", "nothing", "idle", "wait", "rest"}
)
LIMITS = {
    "upload_bytes": UPLOAD_BYTES,
    "upload_seconds": UPLOAD_SECONDS,
    "kept_steps": FRAMES_KEPT,
    "replay_steps": MOST_ACTIONS,
    "film_frames": FRAMES_KEPT,
    "gif_frames": GIF_FRAMES,
}
MOST_CLAMP, MOST_TEMPERATURE, MOST_REENCODE = 10.0, 2.0, 64


def rest_code(codes: Sequence[Code]) -> int | None:
    """The code that does nothing, by its name; None where none is called so, and the world waits for a key."""
    return next((number for number, code in enumerate(codes) if code.name.casefold() in RESTING), None)


def about_world(world: World, name: str) -> dict[str, Any]:
    """The fields `world` and `settings` of the greeting."""
    config = world.config
    codes = [{"name": code.name, "key": code.key, "usage": code.usage} for code in world.codes]
    about = {
        "name": name,
        "size": world.size,
        "fps": world.fps,
        "window": config.window,
        "parameters": world.parameters()["total"],
        "codes": codes,
    }
    return {"world": about, "settings": settings_of(world)}


def settings_of(world: World) -> dict[str, dict[str, float | None] | None]:
    """Value and range of each setting; None for one that this world has no use for."""
    config, dynamics = world.config, world.player.model.config
    noise = None
    if dynamics.context_noise > 0:
        noise = {"value": config.noise_level or 0.0, "least": 0.0, "most": dynamics.context_noise}
    temperature = None
    if dynamics.head == "flow":
        value = 1.0 if config.temperature is None else config.temperature
        temperature = {"value": value, "least": 0.0, "most": MOST_TEMPERATURE}
    return {
        "noise_level": noise,
        "clamp": {"value": config.clamp, "least": 0.5, "most": MOST_CLAMP},
        "temperature": temperature,
        "reencode_every": {"value": config.reencode_every or 0, "least": 0, "most": MOST_REENCODE},
    }
