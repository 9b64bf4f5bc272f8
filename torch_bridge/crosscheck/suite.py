"""`crosscheck`: all Flax modules beside their PyTorch twins, of a trained world or with random weights."""

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.dynamics_loss import LossConfig
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.nn import Params
from genie_jax.training import OptimizerConfig
from genie_jax.trees import leaf_name
from genie_jax.vq import VectorQuantizer, VQConfig
from torch_bridge.crosscheck.actions import check_actions
from torch_bridge.crosscheck.dynamics import NOT_COMPARED, Prompt, check_dynamics
from torch_bridge.crosscheck.quantizer import check_quantizer
from torch_bridge.crosscheck.report import Report, Row
from torch_bridge.manifest import parse_config
from torch_bridge.world import World

PACKAGES = ("efficient-genie", "jax", "flax", "optax", "torch", "x-transformers", "vector-quantize-pytorch")

# With random weights: every option of the dynamics and of the quantiser is in one of these.
DYNAMICS = {
    "action added": DynamicsConfig(width=64, layers=3, heads=4, head_dim=32, style_dim=48),
    "action as token": DynamicsConfig(
        width=64,
        layers=2,
        heads=4,
        head_dim=16,
        kv_heads=2,
        ff_activation="silu",
        rotary_dims=12,
        qk_rmsnorm=True,
        window=8,
        rows=2,
        style_dim=24,
        action="token",
    ),
    "plain": DynamicsConfig(
        width=32,
        layers=2,
        heads=1,
        head_dim=32,
        ff_mult=4,
        ff_glu=False,
        rotary_dims=0,
        style_dim=24,
        context_noise=0.0,
        residual=False,
    ),
    "flow head": DynamicsConfig(width=32, layers=1, heads=2, head_dim=16, style_dim=24, head="flow", flow_width=24),
}
QUANTIZERS = {
    "Euclidean": VQConfig(kmeans_start=False),
    "Euclidean, rotation": VQConfig(codes=32, dim=16, gradient="rotation", kmeans_start=False),
    "cosine": VQConfig(cosine=True, kmeans_start=False),
    "cosine, rotation": VQConfig(codes=32, dim=16, cosine=True, gradient="rotation", kmeans_start=False),
}
ACTIONS = {
    "warp": LatentActionConfig(),
    "warp, features": LatentActionConfig(inputs="features"),
    "warp, both": LatentActionConfig(inputs="both"),
    "mlp": LatentActionConfig("mlp"),
}

Tell = Callable[[str], None]


def crosscheck(world: World | None = None, *, seed: int = 0, tell: Tell = lambda _: None) -> Report:
    """Run every Flax module and its twin on the same weights and inputs, on the CPU in float32.

    Args:
        world: whose trained weights are used; None for random ones of several configurations.
        seed: of the inputs, and of random weights.
        tell: is told what is checked next.
    """
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        if world is None:
            return Report("random weights", tuple(_of_random_weights(seed, tell)), versions)
        return Report("a trained world", tuple(_of_world(world, seed, tell)), versions)


def random_params(shapes: Params, seed: int) -> Params:
    """Weights of the given shapes, none of them zero, such that signals keep their size from layer to layer.

    Args:
        shapes: as `jax.eval_shape` of a model's `init`; the leaves under "blocks" are stacked.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)

    def drawn(path: tuple, leaf: jax.ShapeDtypeStruct) -> Array:
        name = leaf_name(path)
        inputs = np.prod(leaf.shape[name.startswith("blocks/") : -1])
        scale = inputs**-0.5 if name.endswith("kernel") else 0.2
        return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32), jnp.float32)

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def _of_random_weights(seed: int, tell: Tell) -> Iterator[Row]:
    key = jax.random.key(seed)
    for name, config in DYNAMICS.items():
        tell(f"dynamics, {name}" + (f" ({NOT_COMPARED})" if config.head == "flow" else ""))
        params = random_params(jax.eval_shape(DynamicsModel(config).init, key), seed)
        yield from _named(name, check_dynamics(config, params, seed=seed))
    for name, config in QUANTIZERS.items():
        tell(f"quantiser, {name}")
        yield from _named(name, check_quantizer(config, VectorQuantizer(config).init(key), seed=seed))
    for name, config in ACTIONS.items():
        tell(f"action model, {name}")
        model = LatentActionModel(config)
        params = random_params(jax.eval_shape(model.init, key), seed)
        yield from _named(name, check_actions(model, params, seed=seed))


def _of_world(world: World, seed: int, tell: Tell) -> Iterator[Row]:
    config = world.player.model.config
    tell("dynamics" + (f" ({NOT_COMPARED})" if config.head == "flow" else ""))
    params, prompt = _on_cpu(world.player.params), _prompt(world)
    loss, optimizer = _training_of(world)
    yield from check_dynamics(config, params, prompt=prompt, loss=loss, optimizer=optimizer, seed=seed)
    tell("quantiser")
    model, book = world.actions.model, _on_cpu(world.actions.vq_state)
    yield from check_quantizer(model.config.quantizer().config, book, seed=seed)
    tell("action model")
    yield from check_actions(model, _on_cpu(world.action_params()), seed=seed, book=book)


def _training_of(world: World) -> tuple[LossConfig | None, OptimizerConfig | None]:
    """How the world's dynamics were trained, None where its provenance does not say."""
    stage = world.config.provenance.config.get("dynamics")
    if not stage:
        return None, None
    return parse_config(LossConfig, stage["loss"]), parse_config(OptimizerConfig, stage["optimizer"])


def _prompt(world: World) -> Prompt | None:
    """The world's first prompt as the dynamics reads it."""
    if not world.prompts:
        return None
    frames_THWC = next(iter(world.prompts.values()))
    w_TLD = _on_cpu(world.player.normalise(world.encode(frames_THWC)))
    return Prompt(np.asarray(w_TLD)[None], world.infer_actions(frames_THWC).astype(np.int64)[None])


def _on_cpu(tree: Params) -> Params:
    return jax.device_put(tree, jax.devices("cpu")[0])


def _named(name: str, rows: Iterable[Row]) -> Iterator[Row]:
    return (replace(row, module=f"{name}: {row.module}") for row in rows)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
