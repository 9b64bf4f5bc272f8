"""Small worlds with random weights in every real part, for the tests of everything that plays a world."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from genie_jax.action_mlp import ActionMLPConfig
from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.trees import flatten_tree
from genie_jax.warp import WarpConfig
from torch_bridge.bundle import Prompts, Tensors, write_world
from torch_bridge.encoder import Encoder, EncoderConfig
from torch_bridge.manifest import WorldManifest, numbered_codes
from torch_bridge.mobile_stylegan import Student, StudentConfig

SIZE, DIM, CODES, WINDOW = 32, 16, 8, 4


def moving_squares(count: int, *, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """A (count, size, size, 3) uint8 clip of a bright square that wanders over a gradient."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((count, size, size, 3), np.uint8)
    frames[..., 2] = np.linspace(40, 200, size).astype(np.uint8)
    place = rng.integers(0, size // 2, 2)
    for frame in frames:
        place = np.clip(place + rng.integers(-2, 3, 2), 0, size - size // 4)
        frame[place[0] : place[0] + size // 4, place[1] : place[1] + size // 4] = (240, 200, 40)
    return frames


def world_parts(
    *, form: str = "warp", rows: int = 1, context_noise: float = 0.7, seed: int = 0, **changes: Any
) -> tuple[WorldManifest, Tensors, Prompts]:
    """Manifest, tensors and prompts of a world that moves visibly; `changes` are fields of the manifest."""
    student = StudentConfig(SIZE, DIM, (16, 8, 8))
    encoder = EncoderConfig("b0", SIZE, DIM, rows=rows, grid=2, width=8, taps=(1, 2))
    warp = WarpConfig(size=16, encoder_channels=(4, 4, 8), decoder_channels=(4, 4, 8))
    actions = LatentActionConfig(form, CODES, 8, warp=warp, mlp=ActionMLPConfig(rows, DIM, hidden=16, layers=1))
    dynamics = DynamicsConfig(
        16, 2, heads=2, head_dim=8, window=WINDOW, codes=CODES, rows=rows, style_dim=DIM, context_noise=context_noise
    )
    key = jax.random.key(seed)
    params = jax.jit(DynamicsModel(dynamics).init)(key)
    # the head starts at zero, which would make every code a standstill
    kernel = params["head"]["project_out"]["kernel"]
    params["head"]["project_out"]["kernel"] = 0.1 * jax.random.normal(key, kernel.shape)
    model = LatentActionModel(actions)
    codebook = jax.jit(model.init_quantizer)(key)._replace(embed_KD=jax.random.normal(key, (CODES, 8)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = {"encoder": Encoder(encoder), "decoder": Student(student)}
    rng = np.random.default_rng(seed)
    tensors = {name: {k: v.numpy() for k, v in module.state_dict().items()} for name, module in modules.items()}
    tensors["actions"] = flatten_tree({"params": jax.jit(model.init)(key), "vq": codebook})
    tensors["dynamics"] = flatten_tree(
        {
            "params": params,
            "w_mean": rng.normal(size=(rows, DIM)).astype(np.float32),
            "w_std": rng.uniform(0.5, 2, (rows, DIM)).astype(np.float32),
        }
    )
    fields = {
        "size": SIZE,
        "fps": 12.0,
        "rows": rows,
        "style_dim": DIM,
        "window": WINDOW,
        "codes": numbered_codes([4, 3, 2, 1, 1, 1, 1, 1]),
        "encoder": dataclasses.asdict(encoder),
        "student": dataclasses.asdict(student),
        "actions": dataclasses.asdict(actions),
        "dynamics": dataclasses.asdict(dynamics),
    }
    prompts = {name: moving_squares(16, seed=number) for number, name in enumerate(("00", "01"))}
    return WorldManifest(**(fields | changes)), tensors, prompts


def make_world(path: Path, **options: Any) -> Path:
    """Write the world of `world_parts(**options)` to a folder and return it."""
    write_world(path, *world_parts(**options))
    return path
