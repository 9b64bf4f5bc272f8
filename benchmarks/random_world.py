"""A world of a preset's sizes with random weights: what a step costs does not depend on what was learned."""

from dataclasses import asdict

import jax
import numpy as np
import torch

from genie_jax.dynamics import DynamicsModel
from genie_jax.latent_action import LatentActionModel
from genie_jax.trees import flatten_tree
from torch_bridge.encoder import Encoder
from torch_bridge.manifest import WorldManifest, numbered_codes
from torch_bridge.mobile_stylegan import Student
from torch_bridge.world import World
from train.presets import preset

CONTRAST = 0.35  # of the frames: a JPEG of them at 256 px has then the size of one of footage (about 25 KB)


def random_world(name: str, device: str = "auto") -> World:
    """The world of a preset as it would be packed, with weights as before training and w of mean 0 and deviation 1."""
    config = preset(name)
    encoder, student = config.encoder.model, config.student.model
    actions, dynamics = LatentActionModel(config.actions.model), DynamicsModel(config.dynamics.model)
    torch.manual_seed(0)
    parts = {"encoder": Encoder(encoder), "decoder": Student(student)}
    with torch.no_grad():  # as untrained a frame is noise, which takes several times the bytes of footage as JPEG
        parts["decoder"].layers[-1].to_img.conv.weight.mul_(CONTRAST)
    tensors = {part: {k: v.numpy() for k, v in module.state_dict().items()} for part, module in parts.items()}
    keys = jax.random.split(jax.random.key(0), 3)
    params = actions.init(keys[0])
    pairs = {"params": params, "vq": actions.init_quantizer(keys[1])}
    tensors["actions"] = flatten_tree(jax.tree.map(np.asarray, pairs))
    learned = dynamics.init(keys[2])
    # Heads that regress start at zero: steps would be copies. Small: w stays where it is drawn from.
    head = learned["head"]["project_out"]
    head["kernel"] = 0.002 * jax.random.normal(keys[2], head["kernel"].shape)
    row = (encoder.rows, encoder.style_dim)
    statistics = {"w_mean": np.zeros(row, np.float32), "w_std": np.ones(row, np.float32)}
    tensors["dynamics"] = flatten_tree(jax.tree.map(np.asarray, {"params": learned, **statistics}))
    manifest = WorldManifest(
        size=config.size,
        fps=15.0,
        rows=encoder.rows,
        style_dim=config.style_dim,
        window=config.dynamics.model.window,
        codes=numbered_codes([1.0] * config.codes),
        encoder=asdict(encoder),
        student=asdict(student),
        actions=asdict(config.actions.model),
        dynamics=asdict(config.dynamics.model),
        reencode_every=config.world.reencode_every,
    )
    return World(manifest, tensors, {"noise": noise_clip(config.size)}, device=device)


def noise_clip(size: int, frames: int = 16) -> np.ndarray:
    """A prompt: coarse noise that drifts, (frames, size, size, 3) uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    picture = coarse.repeat(size // 8, axis=0).repeat(size // 8, axis=1)
    return np.stack([np.roll(picture, number, axis=1) for number in range(frames)])
