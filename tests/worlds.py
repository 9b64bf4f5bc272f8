"""Small worlds with random weights in every real part, for the tests of everything that plays a world."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from genie_jax.action_mlp import ActionMLPConfig
from genie_jax.clips import Clip
from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.pair_features import FeatureConfig
from genie_jax.trees import flatten_tree
from genie_jax.vq import VQState
from genie_jax.warp import WarpConfig
from torch_bridge.bundle import Prompts, Tensors, write_world
from torch_bridge.encoder import Encoder, EncoderConfig, to_store
from torch_bridge.images import to_float
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


def random_params(init: Callable[[jax.Array], Any], rng: np.random.Generator) -> Any:
    """Parameters of the structure that `init` makes, drawn by NumPy: compiling `init` itself takes seconds."""

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = np.prod(leaf.shape[-2:-1], dtype=int) if leaf.ndim < 4 else np.prod(leaf.shape[:-1])
        return rng.normal(size=leaf.shape, scale=max(fan_in, 4) ** -0.5).astype(leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(init, jax.random.key(0)))


def world_parts(
    *,
    form: str = "warp",
    inputs: str = "frames",
    rows: int = 1,
    spatial: int = 0,
    context_noise: float = 0.7,
    head: str = "regression",
    count: int = CODES,
    seed: int = 0,
    **changes: Any,
) -> tuple[WorldManifest, Tensors, Prompts]:
    """Manifest, tensors and prompts of a world that moves visibly; `changes` are fields of the manifest.

    `rows` are those of styles; a map of `spatial` channels comes on top. `count` is the number of codes.
    """
    student = StudentConfig(SIZE, DIM, (16, 8, 8), spatial)
    styles, rows = rows, rows + student.map_rows
    encoder = EncoderConfig("b0", SIZE, DIM, rows=rows, grid=2, width=8, taps=(1, 2), spatial=spatial)
    warp = WarpConfig(size=16, encoder_channels=(4, 4, 8), decoder_channels=(4, 4, 8))
    mlp, features = ActionMLPConfig(rows, DIM, hidden=16, layers=1), FeatureConfig(2, encoder.channels, 8)
    actions = LatentActionConfig(form, count, 8, warp=warp, mlp=mlp, inputs=inputs, features=features)
    dynamics = DynamicsConfig(
        16, 2, heads=2, head_dim=8, window=WINDOW, codes=count, rows=rows, style_dim=DIM, context_noise=context_noise,
        head=head, flow_width=16,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    params = random_params(DynamicsModel(dynamics).init, rng)
    # a gentle head: the frames shall move, and not run away
    (params["head"] if head == "regression" else params["head"]["leave"])["project_out"]["kernel"] *= 0.3
    model = LatentActionModel(actions)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        modules = {"encoder": Encoder(encoder).eval(), "decoder": Student(student)}
        clip = moving_squares(count + 1, seed=7)
        images = to_float(torch.from_numpy(clip))
        modules["encoder"].head.weight /= modules["encoder"](images).std(0).mean()  # w spreads as a trained one does
        modules["encoder"].set_mean_w(-modules["encoder"](images).mean(0)[:styles])
        w_TLD = modules["encoder"](images).numpy()
        maps_TGGC = to_store(modules["encoder"].maps(images)).numpy()
    w_mean, w_std = w_TLD.mean(0), w_TLD.std(0) + 1e-3
    action_params = random_params(model.init, rng)
    # codes where the vectors of real pairs lie, so that pairs differ in their codes
    seen = Clip(clip[None], ((w_TLD - w_mean) / w_std)[None], maps_TGGC[None])
    vectors_KD = np.asarray(jax.jit(model.encode)(action_params, seen)[0])
    codebook = VQState(np.array(True), np.ones(count, np.float32), vectors_KD, vectors_KD)
    tensors = {name: {k: v.numpy() for k, v in module.state_dict().items()} for name, module in modules.items()}
    tensors["actions"] = flatten_tree({"params": action_params, "vq": codebook})
    tensors["dynamics"] = flatten_tree({"params": params, "w_mean": w_mean, "w_std": w_std})
    fields = {
        "size": SIZE,
        "fps": 12.0,
        "rows": rows,
        "style_dim": DIM,
        "window": WINDOW,
        "codes": numbered_codes([4, 3, 2, *[1] * (count - 3)]),
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
