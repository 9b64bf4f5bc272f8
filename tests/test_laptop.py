"""The preset `laptop` at its full widths and 256 px: every stage is built as in a run, and makes one step."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

from genie_jax.trees import flatten_tree
from torch_bridge.discriminator import Discriminator
from torch_bridge.encoder import Encoder
from torch_bridge.mobile_stylegan import Student
from torch_bridge.stylegan2 import Generator
from train.config import Config
from train.parts import Parts
from train.presets import preset
from train.run import Run
from train.torch_stage import seeded, to_arrays

FRAMES, BATCH = 12, 4  # a batch is a multiple of 4 for D's minibatch statistic
TRAINED = {
    "teacher": ("generator", "discriminator"),
    "student": ("student", "discriminator"),
    "encoder": ("model", "discriminator"),
    "drift": ("encoder",),
}
STAGES = (*TRAINED, "actions", "dynamics")
# Frames are a function of w alone, so noise is not used; the encoder's losses see the finest wavelet head alone.
UNUSED = {"student": r"\.noise\.", "encoder": r"\.noise\.|\.to_img1\.|\.layers\.[0-3]\.to_img\."}


def few_frames() -> Config:
    """The preset with the models it has, and no more than one small batch a step; nothing is downloaded."""
    config = preset("laptop")
    clip = config.dynamics.loss.unroll + 2  # the shortest that the loss allows
    return replace(
        config,
        teacher=replace(config.teacher, batch=BATCH),
        student=replace(config.student, batch=BATCH, perceptual_kind="discriminator"),
        encoder=replace(config.encoder, batch=BATCH, perceptual_kind="discriminator"),
        drift=replace(config.drift, batch=BATCH),
        actions=replace(config.actions, batch=BATCH, steps_per_call=1),
        dynamics=replace(config.dynamics, batch=BATCH, clip=clip, steps_per_call=1),
    )


class Noise:
    """A store of one shot of random frames."""

    path, size, shots = Path("noise"), 256, np.array([[0, FRAMES]])

    def __len__(self) -> int:
        return FRAMES

    def read(self, indices: np.ndarray) -> np.ndarray:
        frames = np.random.default_rng(0).integers(0, 256, (FRAMES, self.size, self.size, 3), np.uint8)
        return frames[indices]


class Untrained(Parts):
    """The stages of a run whose finished stages left their initial weights."""

    store = Noise()

    def result(self, stage: str, stem: str) -> dict[str, np.ndarray]:  # noqa: ARG002 - the stem says it all
        config, dim = self.config, self.config.style_dim
        if stem == "w":
            return {"mean": np.zeros(dim, np.float32), "std": np.ones(dim, np.float32)}
        if stem == "codes":
            return {"codes": np.append(np.arange(FRAMES - 1) % config.codes, -1)}
        built = {
            "generator": lambda: Generator(config.teacher.generator),
            "discriminator": lambda: Discriminator(config.teacher.discriminator),
            "student": lambda: Student(config.student.model),
            "encoder": lambda: Encoder(config.encoder.model),
        }
        return to_arrays(seeded(1, stem, built[stem]))

    def latents(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        w_FLD = np.random.default_rng(1).normal(size=(FRAMES, self.config.rows, self.config.style_dim))
        return w_FLD.astype(np.float32), w_FLD.mean(0), w_FLD.std(0)


def weights(stage: Any) -> dict[str, np.ndarray]:
    """Copies of the tensors that the stage trains, by name."""
    if stage.framework == "jax":
        return {name: np.array(leaf) for name, leaf in flatten_tree(stage.state()["train"].params).items()}
    networks = {name: getattr(stage, name) for name in TRAINED[stage.name]}
    return {
        f"{name}.{key}": parameter.detach().clone().numpy()
        for name, network in networks.items()
        for key, parameter in network.named_parameters()
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_step_at_full_size_is_finite_and_trains_every_network(name: str, tmp_path: Path) -> None:
    parts = Untrained(Run(tmp_path), few_frames(), tmp_path, torch.device("cpu"), jax.devices("cpu")[0])
    stage = getattr(parts, name)()
    before = weights(stage)
    # At step 0 the lazy regularisers are due, which have tests of their own. The dynamics' last layer begins at
    # zero, so that the weights before it have no gradient until the second step.
    for step in (1, 2) if name == "dynamics" else (1,):
        metrics = stage.advance(step, 0.5, 1.0)
    assert "loss" in metrics
    assert [key for key, value in metrics.items() if not np.isfinite(float(value))] == []
    after = weights(stage)
    assert all(np.isfinite(tensor).all() for tensor in after.values())
    still = [key for key, tensor in before.items() if np.array_equal(tensor, after[key])]
    assert [key for key in still if not re.search(UNUSED.get(name, "^$"), key)] == []
