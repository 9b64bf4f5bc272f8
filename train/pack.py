"""The world of a run: what its stages learned, as the folder that play loads."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from torch_bridge.bundle import write_world
from torch_bridge.manifest import Provenance, WorldManifest, numbered_codes
from train.code_names import with_learned_names
from train.config import Config
from train.overrides import to_json
from train.parts import Parts
from train.run import versions


def pack_world(parts: Parts, path: Path) -> None:
    """Write the world's folder."""
    config = parts.config
    window = config.dynamics.model.window
    tensors = {
        "encoder": parts.result("drift", "encoder"),
        "decoder": parts.result("encoder", "student"),
        "actions": parts.result("actions", "actions"),
        "dynamics": parts.result("dynamics", "dynamics"),
    }
    codes_F = parts.result("actions", "codes")["codes"]
    usage = np.bincount(codes_F[codes_F >= 0], minlength=config.codes)
    manifest = WorldManifest(
        size=config.size,
        fps=parts.store.fps,
        rows=config.rows,
        style_dim=config.style_dim,
        window=window,
        codes=with_learned_names(numbered_codes(usage), parts.run.folder("actions")),
        encoder=asdict(replace(config.encoder.model, pretrained=False)),
        student=asdict(config.student.model),
        actions=asdict(config.actions.model),
        dynamics=asdict(config.dynamics.model),
        noise_level=config.world.noise_level,
        clamp=config.world.clamp,
        temperature=config.world.temperature,
        reencode_every=config.world.reencode_every,
        provenance=Provenance(
            run=parts.run.path.name,
            config=to_json(without_folders(config)),
            versions=versions(),
            sources=tuple(source.name for source in parts.store.sources),
        ),
    )
    write_world(path, manifest, tensors, prompts(parts, config.world.prompts, window))


def without_folders(config: Config) -> Config:
    """The config with the bare names of files: where they lie is nothing to hand on."""
    if config.encoder.trunk_weights is None:
        return config
    return replace(config, encoder=replace(config.encoder, trunk_weights=Path(config.encoder.trunk_weights).name))


def prompts(parts: Parts, count: int, length: int) -> dict[str, UInt8[np.ndarray, "T H W C"]]:
    """Clips of real frames by name: held-out ones for up to half ("heldout0", ...), the rest seen in training.

    A corpus whose shots are all shorter than `length` gives clips of its longest shot's length.
    """
    corpus = parts.corpus
    heldout = _spread(corpus.heldout_shots, count // 2, length)
    longest = int((corpus.train_shots[:, 1] - corpus.train_shots[:, 0]).max())
    seen = _spread(corpus.train_shots, count - len(heldout), min(length, longest))
    clips = {f"heldout{number}": span for number, span in enumerate(heldout)}
    clips |= {f"seen{number}": span for number, span in enumerate(seen)}
    return {name: corpus.read(np.arange(*span)) for name, span in clips.items()}


def _spread(shots: np.ndarray, count: int, length: int) -> list[tuple[int, int]]:
    """Up to `count` clips [start, stop) of `length` frames, evenly spread over all places where one fits."""
    starts = np.concatenate([np.zeros(0, np.int64), *(np.arange(a, b - length + 1) for a, b in shots.tolist())])
    if not len(starts) or count == 0:
        return []
    chosen = np.unique(np.linspace(0, len(starts) - 1, count).round().astype(int))
    return [(int(starts[place]), int(starts[place]) + length) for place in chosen]
