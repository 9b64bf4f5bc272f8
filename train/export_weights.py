"""The networks of a run or of a world as files for other programs.

To rosinality's layout: one checkpoint of generator, discriminator and mean w. To safetensors: one file for each network
of `PARTS`, with its config as JSON in the metadata; the dynamics and the quantiser in the names of x-transformers and
vector-quantize-pytorch.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from genie_jax.dynamics import DynamicsConfig
from torch_bridge.bundle import locate_world, read_world
from torch_bridge.manifest import parse_config
from torch_bridge.reference.codebook_names import codebook_state
from torch_bridge.reference.dynamics_names import wrapper_state
from torch_bridge.upstream import load_stylegan2, load_stylegan2_discriminator
from torch_bridge.upstream_export import rosinality_checkpoint, rosinality_multiplier
from train.errors import UserError
from train.progress import Log
from train.run import Run, read_result

Arrays = dict[str, np.ndarray]
Entry = tuple[str, Arrays, dict[str, Any]]  # place, tensors, config
# Where a run keeps each network, the latest first: (stage, stem).
IN_RUN = {
    "generator": (("teacher", "generator"),),
    "discriminator": (("teacher", "discriminator"),),
    "student": (("encoder", "student"), ("student", "student")),
    "encoder": (("drift", "encoder"), ("encoder", "encoder")),
    "actions": (("actions", "actions"),),
    "dynamics": (("dynamics", "dynamics"),),
}
IN_WORLD = {"student": "decoder", "encoder": "encoder", "actions": "actions", "dynamics": "dynamics"}
_CONFIG = {  # where a run's config describes each network
    "generator": ("teacher", "generator"),
    "discriminator": ("teacher", "discriminator"),
    **{name: (name, "model") for name in ("student", "encoder", "actions", "dynamics")},
}


class Origin:
    """The finished networks of a run's or a world's folder.

    Raises:
        UserError: the folder is neither.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._run = Run(path) if (path / "run.json").is_file() else None
        if self._run is None:
            try:
                self._manifest, self._world, _ = read_world(locate_world(path))
            except ValueError as error:
                fault = str(error).removeprefix(f"{path}: ").split(". ")[0]
                raise UserError(path, fault, "give the folder of a run, or of a world") from error

    @property
    def is_world(self) -> bool:
        return self._run is None

    def find(self, part: str) -> Entry | None:
        """Place, tensors and config of a network of `IN_RUN`; None where it is not there, or not finished."""
        if self._run is None:
            if part not in IN_WORLD:
                return None
            name = IN_WORLD[part]
            return name, dict(self._world[name]), getattr(self._manifest, part)
        for stage, stem in IN_RUN[part]:
            record, folder = self._run.stages.get(stage), self._run.folder(stage)
            if record is not None and record.state == "done" and (folder / f"{stem}.safetensors").exists():
                section, field = _CONFIG[part]
                return f"{stage}/{stem}", read_result(folder, stem), self._run.config[section][field]
        return None


def _own_names(part: str) -> Callable[[Origin], Entry | None]:
    return lambda origin: origin.find(part)


def _dynamics(origin: Origin) -> Entry | None:
    """In the names of x-transformers' `ContinuousTransformerWrapper`, strictly what that loads."""
    found = origin.find("dynamics")
    if found is None:
        return None
    place, tensors, config = found
    return place, wrapper_state(parse_config(DynamicsConfig, config), _below("params/", tensors)), config


def _added(origin: Origin) -> Entry | None:
    """What the dynamics have around that wrapper: embeddings of code and noise level, statistics of w, a flow head."""
    found = origin.find("dynamics")
    if found is None:
        return None
    place, tensors, config = found
    names = {"params/embed/code": "code", "params/embed/level": "level", "w_mean": "w_mean", "w_std": "w_std"}
    if config.get("head") == "flow":  # in its own names, but for the final norm, which the wrapper has
        own = (name for name in tensors if name.startswith("params/head/") and "final_norm" not in name)
        names |= {name: name.removeprefix("params/") for name in own}
    return place, {name: tensors[ours] for ours, name in names.items() if ours in tensors}, config


def _quantizer(origin: Origin) -> Entry | None:
    """In the names of vector-quantize-pytorch's `VectorQuantize`, strictly what that loads."""
    found = origin.find("actions")
    if found is None:
        return None
    place, tensors, config = found
    return place, codebook_state(_below("vq/", tensors)), config


def _below(prefix: str, tensors: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


# File stem -> where it is from, its tensors under the names that the file shall have, its config; None to leave it out.
PARTS: dict[str, Callable[[Origin], Entry | None]] = {
    **{name: _own_names(name) for name in ("generator", "discriminator", "student", "encoder")},
    "dynamics": _dynamics,
    "dynamics_added": _added,
    "quantizer": _quantizer,
}


def export_weights(source: Path, form: str, out: Path | None = None, *, log: Log = print) -> None:
    """Write the networks of `source`.

    Args:
        source: folder of a run or of a world.
        form: "rosinality" or "safetensors".
        out: the file, or the folder; by default in `source`.
        log: takes lines.

    Raises:
        UserError: the folder does not hold what is to be written.
    """
    writers = {"rosinality": _write_rosinality, "safetensors": _write_safetensors}
    if form not in writers:
        raise UserError(f"--to {form}", "is no form of weights", f"choose one of {', '.join(writers)}")
    writers[form](Origin(source), out, log)


def _write_rosinality(origin: Origin, out: Path | None, log: Log) -> None:
    found, critic = origin.find("generator"), origin.find("discriminator")
    if origin.is_world:
        raise UserError(origin.path, "is a world, which holds no StyleGAN2", "give the run that made it")
    if found is None:
        raise UserError(origin.path, "has no finished teacher", "train it, or import one, first")
    generator = load_stylegan2(_tensors(found[1]))
    discriminator = None if critic is None else load_stylegan2_discriminator(_tensors(critic[1]))
    place = out or origin.path / "stylegan2.pt"
    _whole(place, lambda beside: torch.save(rosinality_checkpoint(generator, discriminator), beside))
    config, multiplier = generator.config, rosinality_multiplier(generator.config)
    log(f"{place}: g_ema, latent_avg{'' if critic is None else ', d'}")
    if critic is None:
        log("note: the run's teacher has no discriminator, so the file has no d")
    if multiplier is None:
        log(f"note: rosinality's own class has no such widths {list(config.widths.values())}; genie import reads them")
    else:
        shape = f"Generator({config.size}, {config.style_dim}, {config.n_mlp}, channel_multiplier={multiplier})"
        log(f"it fits rosinality's {shape}")


def _write_safetensors(origin: Origin, out: Path | None, log: Log) -> None:
    folder = out or origin.path / "weights"
    found = {part: entry for part, read in PARTS.items() if (entry := read(origin)) is not None}
    if not found:
        raise UserError(origin.path, "has no finished network", "train it first")
    folder.mkdir(parents=True, exist_ok=True)
    for part, (place, arrays, config) in found.items():
        metadata = {"part": part, "from": f"{origin.path.name}/{place}", "config": json.dumps(config)}
        contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        _whole(folder / f"{part}.safetensors", lambda beside, a=contiguous, m=metadata: save_file(a, beside, m))
        log(f"{folder / part}.safetensors: {len(arrays)} tensors of {place}")
    if missing := [part for part in PARTS if part not in found]:
        log(f"left out, as {'a world does not hold it' if origin.is_world else 'not finished'}: {', '.join(missing)}")


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _whole(place: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside its place and rename it into it."""
    if place.is_dir():
        raise UserError(place, "is a folder, and the weights are one file", "give the name of a file")
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(place.name + ".tmp")
    write(beside)
    os.replace(beside, place)
