"""The dynamics beside x-transformers: layer by layer, whole, in training, and in a cached rollout.

Each layer is given what the twin's own layer was given, so that a fault shows in its row and not in all that follow.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from jaxtyping import Array, Float, Int
from torch import Tensor, nn

from genie_jax.attention import window_mask
from genie_jax.dynamics import DynamicsConfig, DynamicsModel, Embed, Head
from genie_jax.dynamics_loss import LossConfig, draw
from genie_jax.nn import Params, graph_of
from genie_jax.rollout import rollout
from genie_jax.training import OptimizerConfig, make_optimizer
from genie_jax.transformer import Block
from genie_jax.trees import flatten_tree
from torch_bridge.crosscheck.report import Row, compare
from torch_bridge.reference.dynamics_loss import clip_loss
from torch_bridge.reference.dynamics_names import places
from torch_bridge.reference.flow_head import FlowHeadTwin
from torch_bridge.reference.x_transformers import DynamicsTwin

FORWARD, GRADIENT = 1e-5, 1e-4
# optax computes 1 - b2^t in float32, where up to 1e-5 of it is rounding.
OPTIMIZER = 1e-4
SECOND_STEP = 0.25  # the second step's gradients, in those of the first
NOT_COMPARED = "not compared: loss, gradients and optimiser step of dynamics with a flow head"
BATCH, BEYOND_WINDOW, ROLLOUT_STEPS = 2, 8, 64


class Inputs(NamedTuple):
    """Clips: normalised w, codes, and the noise level that is told, None for a model that embeds none."""

    w_BTLD: Float[np.ndarray, "B T L D"]
    codes_BT: Int[np.ndarray, "B T"]
    level_BT: Float[np.ndarray, "B T"] | None


class Prompt(NamedTuple):
    """Where the rollout starts: normalised w of T known frames and the codes between them."""

    w_BTLD: Float[np.ndarray, "B T L D"]
    codes_BTm1: Int[np.ndarray, "B Tm1"]


def check_dynamics(
    config: DynamicsConfig,
    params: Params,
    *,
    prompt: Prompt | None = None,
    loss: LossConfig | None = None,
    optimizer: OptimizerConfig | None = None,
    seed: int = 0,
) -> Iterator[Row]:
    """Run the dynamics and its twin on the same weights and inputs.

    Args:
        config: of the dynamics; both sides compute in float32.
        params: trained or random; an untrained head is all zeros and tells nothing.
        prompt: start of the rollout; None for random numbers.
        loss, optimizer: what is checked of training; None for the defaults.
        seed: of inputs and noise. Normalised w is standard normal.

    Returns:
        Rows in the order of the arithmetic. Of dynamics with a flow head no training: see `NOT_COMPARED`.
    """
    config = replace(config, compute_dtype="float32")
    model, twin = DynamicsModel(config), DynamicsTwin(config, params)
    inputs = draw_inputs(config, seed)
    rng = np.random.default_rng(seed)
    if prompt is None:
        prompt = Prompt(inputs.w_BTLD, inputs.codes_BT[:, 1:])
    codes_BS = rng.integers(config.codes, size=(len(prompt.w_BTLD), ROLLOUT_STEPS))
    yield compare("weights, there and back", flatten_tree(params), flatten_tree(twin.params()), tolerance=0)
    yield from check_layers(model, params, twin, inputs)
    if config.head == "regression":
        yield from _training(model, params, twin, inputs, loss or LossConfig(), seed)
        yield check_optimizer_step(params, twin, optimizer or OptimizerConfig())
    yield check_rollout(model, params, twin, prompt, codes_BS)


def draw_inputs(config: DynamicsConfig, seed: int) -> Inputs:
    """Clips longer than the window."""
    rng = np.random.default_rng(seed)
    shape = BATCH, config.window + BEYOND_WINDOW
    w = rng.standard_normal((*shape, config.rows, config.style_dim), dtype=np.float32)
    level = np.linspace(0, config.context_noise, w[..., 0, 0].size, dtype=np.float32).reshape(shape)
    return Inputs(w, rng.integers(config.codes, size=shape), level if config.context_noise else None)


def check_layers(model: DynamicsModel, params: Params, twin: DynamicsTwin, inputs: Inputs) -> Iterator[Row]:
    """Rows of the embedding, of each block's halves, of the head, and of all in one."""
    config, stack = model.config, model.config.stack()
    w, codes, level = inputs
    given = [None if x is None else torch.from_numpy(x) for x in inputs]
    with torch.no_grad():
        theirs = twin(*given)
        *hidden, projected = _hidden_states(twin, *given)
    share = 0 if level is None else level / config.context_noise * config.noise_buckets
    bucket = np.minimum(np.zeros(codes.shape) + share, config.noise_buckets - 1).astype(np.int32)
    embed = nnx.merge(graph_of(lambda rngs: Embed(config, rngs)), params["embed"])
    yield compare("embedding", embed(w.reshape(*codes.shape, -1), codes, bucket), hidden[0], tolerance=FORWARD)

    graph = graph_of(lambda rngs: Block(stack, rngs))
    place = jnp.arange(hidden[0].shape[1], dtype=jnp.int32)
    mask = window_mask(place, place, tokens_per_frame=stack.tokens_per_frame, window=stack.window)

    @jax.jit
    def attend(params: Params, x: Array) -> Array:
        block = nnx.merge(graph, params)
        query, key, value = block.attention.project(block.attention_norm(x))
        return x + block.attention.attend(query, key, value, query_N=place, key_S=place, mask_NS=mask)

    mix = jax.jit(lambda params, x: nnx.merge(graph, params).mix(x))
    for i in range(stack.layers):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
        before, between, after = hidden[2 * i : 2 * i + 3]
        yield compare(f"block {i} attention", attend(layer, before.numpy()), between, tolerance=FORWARD)
        yield compare(f"block {i} feed-forward", mix(layer, between.numpy()), after, tolerance=FORWARD)
    if twin.flow is None:
        head = nnx.merge(graph_of(lambda rngs: Head(config, rngs)), params["head"])
        yield compare("head", head(hidden[-1].numpy()), projected, tolerance=FORWARD)
    else:
        yield _flow_head(model, params, twin.flow, hidden[-1])
    ours = jax.jit(model.apply)(params, w, codes, noise_level_BT=level)
    yield compare("prediction, all layers", ours, theirs, tolerance=FORWARD)


def _flow_head(model: DynamicsModel, params: Params, twin: FlowHeadTwin, out_BNM: Tensor) -> Row:
    """The velocity at random places and times, and the draws from random noise."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((*out_BNM.shape[:2], twin.config.features), dtype=np.float32)
    time = rng.random(noise.shape[:2], dtype=np.float32)
    with torch.no_grad():
        condition, x, when = twin.condition(out_BNM), torch.from_numpy(noise), torch.from_numpy(time)
        theirs = {"velocity": twin.velocity(x, when, condition), "draw": twin.change(condition, x, when)}
    head = params["head"]
    drawn = jax.jit(model.flow.draw)(head, out_BNM.numpy(), noise) * model.flow.scale(head, time)
    ours = {"velocity": jax.jit(model.flow.velocity)(head, noise, time, out_BNM.numpy()), "draw": drawn}
    return compare("flow head", ours, theirs, tolerance=FORWARD)


def _hidden_states(twin: DynamicsTwin, *inputs: Tensor | None) -> list[Tensor]:
    """What entered each layer of the twin (two a block), what left the last one, and that projected out."""
    seen: list[Tensor] = []
    decoder = twin.transformer.attn_layers
    norms = [layer[0][0] for layer in decoder.layers] + [decoder.final_norm]
    hooks = [norm.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for norm in norms]
    hooks.append(twin.transformer.project_out.register_forward_hook(lambda _, __, out: seen.append(out)))
    try:
        twin(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _training(
    model: DynamicsModel, params: Params, twin: DynamicsTwin, inputs: Inputs, config: LossConfig, seed: int
) -> Iterator[Row]:
    key, w, codes_BTm1 = jax.random.key(seed), inputs.w_BTLD, inputs.codes_BT[:, 1:]
    drawn = draw(config, model.config.context_noise, jnp.asarray(w), key)
    weight = np.random.default_rng(seed).uniform(0.5, 1.5, w.shape[2:]).astype(np.float32)
    context, level, starts = (None if x is None else torch.from_numpy(np.array(x)) for x in drawn)
    given = [torch.from_numpy(x) for x in (w, codes_BTm1)]
    theirs = clip_loss(twin, config, *given, context, level, starts, torch.from_numpy(weight))
    twin.zero_grad()
    theirs.backward()

    @jax.jit
    @jax.value_and_grad
    def loss(params: Params) -> Array:
        return model.loss(params, w, codes_BTm1, key=key, weight_LD=weight, config=config)[0]

    ours, gradients = loss(params)
    yield compare(f"loss through {config.unroll} own steps", ours, theirs, tolerance=FORWARD)
    expected = flatten_tree(twin.gradients())
    for name, gradient in flatten_tree(gradients).items():
        yield compare(f"gradient of {name}", gradient, expected[name], tolerance=GRADIENT)


def check_optimizer_step(params: Params, twin: DynamicsTwin, config: OptimizerConfig) -> Row:
    """A step on the twin's gradients and one on `SECOND_STEP` times these, given to both, so that the optimisers alone
    are compared: after one step the decays b1 and b2 cancel out.

    Compared is by how much the weights change. The weights themselves are a thousand times larger, and would hide a
    missing weight decay.
    """
    transform = make_optimizer(config)
    state, ours, stepped = transform.init(params), jax.tree.map(jnp.zeros_like, params), params
    for scale in (1.0, SECOND_STEP):
        gradients = jax.tree.map(lambda g, s=scale: s * g, twin.gradients())
        updates, state = transform.update(gradients, state, stepped)
        ours = jax.tree.map(lambda change, u: change + config.learning_rate * u, ours, updates)
        stepped = jax.tree.map(jnp.add, params, ours)
    theirs = torch_change(params, twin, config)
    return compare("AdamW step", flatten_tree(ours), flatten_tree(theirs), tolerance=OPTIMIZER)


def torch_change(params: Params, twin: DynamicsTwin, config: OptimizerConfig) -> Params:
    """By how much PyTorch's AdamW changes the weights in these steps; in float64, so that the difference is exact."""
    before, stepped = DynamicsTwin(twin.config, params).double(), DynamicsTwin(twin.config, params).double()
    optimizer = _torch_adamw(stepped, config)
    for scale in (1.0, SECOND_STEP):
        for parameter, source in zip(stepped.parameters(), twin.parameters(), strict=True):
            parameter.grad = None if source.grad is None else scale * source.grad.double()
        nn.utils.clip_grad_norm_(stepped.parameters(), config.clip_norm)
        optimizer.step()
    with torch.no_grad():
        for parameter, source in zip(stepped.parameters(), before.parameters(), strict=True):
            parameter.sub_(source)
    return stepped.params()


def _torch_adamw(twin: DynamicsTwin, config: OptimizerConfig) -> torch.optim.Optimizer:
    """PyTorch's AdamW with the same settings."""
    kernels = {place.theirs for place in places(twin.config) if place.is_kernel}
    groups = [
        {"params": [p for n, p in twin.named_parameters() if (n in kernels) == decayed], "weight_decay": decay}
        for decayed, decay in ((True, config.weight_decay), (False, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.b1, config.b2), eps=config.eps)


def check_rollout(
    model: DynamicsModel, params: Params, twin: DynamicsTwin, prompt: Prompt, codes_BS: np.ndarray
) -> Row:
    """A rollout of the ring cache, each frame against what the twin makes, without a cache, of all frames before it.

    The frames before are those of the rollout itself: two rollouts of their own part by rounding alone, as every
    recurrence does. It starts from half a window, so that the ring fills on the way.
    """
    known = max(1, model.config.window // 2)
    prompt = Prompt(prompt.w_BTLD[:, :known], prompt.codes_BTm1[:, : known - 1])
    ours = np.asarray(jax.jit(lambda *arrays: rollout(model, *arrays))(params, *prompt, codes_BS))
    history = np.concatenate([prompt.w_BTLD, ours[:, :-1]], axis=1)
    codes = np.concatenate([prompt.codes_BTm1, codes_BS], axis=1)
    with torch.no_grad():
        theirs = twin(torch.from_numpy(history), torch.from_numpy(codes).long())[:, known - 1 :]
    return compare(f"cached rollout, {codes_BS.shape[1]} frames", ours, theirs, tolerance=FORWARD)
