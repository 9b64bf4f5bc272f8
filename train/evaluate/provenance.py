"""What was evaluated and how: the world, the program and the machine, as they stand in metrics.json and its report."""

from datetime import UTC, datetime
from pathlib import Path

from torch_bridge.bundle import locate_world, read_manifest
from train.evaluate.play import machine
from train.evaluate.subject import EvaluatedWorld
from train.run import versions


def describe_world(world: EvaluatedWorld, folder: Path | None, side: int) -> dict[str, object]:
    """Name, sizes and codes of the world. `folder` is None for a world that lies nowhere; `side` in pixels."""
    said: dict[str, object] = {"name": type(world).__name__, "size": side, "codes": code_names(world)}
    if folder is None:
        return said
    place = locate_world(folder)
    manifest = read_manifest(place)
    played = getattr(world, "config", manifest)  # may differ from the manifest: see `World.play_with`
    return said | {
        "play": {name: getattr(played, name) for name in ("noise_level", "clamp", "temperature", "reencode_every")},
        "name": manifest.provenance.run or place.name,
        "fps": manifest.fps,
        "window": manifest.window,
        "w": [manifest.rows, manifest.style_dim],
        "trained_on": [Path(source).name for source in manifest.provenance.sources],
        "versions": dict(manifest.provenance.versions),
        "sha256": dict(manifest.sha256),
    }


def code_names(world: EvaluatedWorld) -> list[str]:
    """A name for each code, in the codebook's order."""
    return [str(getattr(code, "name", code)) for code in world.codes]


def describe_making(command: str, device: str) -> dict[str, object]:
    """When, by which command, on which machine and with which versions."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"date": date, "command": command, "device": device, "machine": machine(), "versions": versions()}
