"""A training step of the dynamics beside x-transformers with AdamW in PyTorch: same weights, same batch, same loss.

    python benchmarks/dynamics_training.py [-o dynamics_training.json] [--device cuda] [--case laptop:8]

Both train teacher-forced without context noise: forward, backward, clipping by the global norm, AdamW with decay on
kernels. Ours averages the weights besides. The losses of the first step must be equal. PyTorch runs eager and by
`torch.compile`, with its fused AdamW and scaled-dot-product attention; ours makes several optimiser steps a dispatch,
as training does. All are also held against the rate of a large matrix product, which nothing in float32 can exceed, and
ours on a GPU against the device's peak, by the arithmetic of three forward passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import torch
from machine import Matmul, matmul_flops
from rows import Row, arguments, compare, figure, finish
from timing import interleaved
from torch import nn

from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.dynamics_loss import LossConfig
from genie_jax.flops import count_flops
from genie_jax.training import OptimizerConfig, init_state, make_optimizer, make_train_step
from torch_bridge.memory import keep_freed_memory
from torch_bridge.reference.x_transformers import DynamicsTwin, make_wrapper
from train.devices import choose_devices
from train.presets import preset

LOSS = LossConfig(unroll=0)
OPTIMIZER = OptimizerConfig()
RATE = 1e-4
GOAL = {"cpu": 1.3, "cuda": 2.0}  # times the tokens a second of the compiled peer
LEAST_SHARE = 0.5  # of the peak in bfloat16
NOMINAL = {"H200": 989e12, "H100 80GB": 989e12, "A100": 312e12}  # dense bfloat16, by a part of the device's name
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Case:
    """A preset's dynamics, clips a batch, optimiser steps a dispatch, and what it computes in."""

    preset: str
    batch: int
    steps: int
    dtype: str = "float32"

    @property
    def title(self) -> str:
        """For the table."""
        return f"{self.preset}, {self.batch} clips of {self.clip}, {self.dtype}"

    @property
    def clip(self) -> int:
        """Frames of a clip."""
        return preset(self.preset).dynamics.clip

    @property
    def model(self) -> DynamicsConfig:
        """The preset's dynamics without context noise."""
        config = preset(self.preset)
        sizes = {"style_dim": config.style_dim, "context_noise": 0.0, "compute_dtype": self.dtype}
        return replace(config.dynamics.model, **sizes)

    @property
    def tokens(self) -> int:
        """Tokens that a dispatch trains on."""
        return self.steps * self.batch * (self.clip - 1) * self.model.tokens_per_frame


CPU = (Case("tiny", 16, 10), Case("laptop", 8, 1), Case("laptop", 64, 1))
CUDA = (Case("laptop", 64, 10), Case("gpu", 128, 10, "bfloat16"), Case("gpu", 1024, 10, "bfloat16"))
QUICK = (Case("debug", 4, 2),)


def inputs(case: Case) -> tuple[np.ndarray, np.ndarray, dict]:
    """w (steps, B, T, L, D), codes (steps, B, T-1), and weights whose head is not zero."""
    config, rng = case.model, np.random.default_rng(0)
    w = rng.standard_normal((case.steps, case.batch, case.clip, config.rows, config.style_dim), np.float32)
    codes = rng.integers(0, config.codes, (case.steps, case.batch, case.clip - 1)).astype(np.int32)
    params = DynamicsModel(config).init(jax.random.key(0))
    head = params["head"]["project_out"]
    head["kernel"] = 0.02 * jax.random.normal(jax.random.key(1), head["kernel"].shape)
    return w, codes, params


def ours_of(case: Case) -> tuple[Callable[[], None], float]:
    """A dispatch of our training, and the mean loss of a first one."""
    w, codes, params = inputs(case)
    model, optimizer = DynamicsModel(case.model), make_optimizer(OPTIMIZER)

    def loss_fn(params: dict, extra: tuple, batch: tuple, *, key: jax.Array) -> tuple:
        loss, metrics = model.loss(params, *batch, key=key, config=LOSS)
        return loss, (extra, metrics)

    train = make_train_step(loss_fn, optimizer, seed=0, steps_per_call=case.steps)
    data = jax.device_put((w, codes))
    state, metrics = train(init_state(model.apart(params), optimizer), data, 0, RATE)
    held = [state]

    def call() -> None:
        held[0], metrics = train(held[0], data, 0, RATE)
        jax.block_until_ready((held[0], metrics))

    return call, float(metrics["loss"])


class Peer(nn.Module):
    """The package's transformer around w and codes, and the loss: what `DynamicsTwin` computes, without its options."""

    def __init__(self, config: DynamicsConfig, params: dict, frames: int) -> None:
        super().__init__()
        twin = DynamicsTwin(config, params)
        self.transformer, self.code = make_wrapper(config, flash=True), twin.code
        self.transformer.load_state_dict(twin.transformer.state_dict())
        self.register_buffer("mask", twin.mask(frames))

    def forward(self, w_BTLD: torch.Tensor, codes_BTm1: torch.Tensor) -> torch.Tensor:
        """The loss of a batch."""
        context = w_BTLD[:, :-1]
        added = self.code[codes_BTm1]
        change = self.transformer(context.flatten(2), sum_embeds=added, attn_mask=self.mask)
        return 2 * nn.functional.huber_loss(change.float().reshape(context.shape) + context, w_BTLD[:, 1:])


def theirs_of(case: Case, device: torch.device, *, compiled: bool) -> tuple[Callable[[], None], float]:
    """The same number of steps in PyTorch, and the mean loss of the first ones."""
    w, codes, params = inputs(case)
    config = case.model
    if config.action != "add":
        raise SystemExit(f"{case.title}: the peer adds actions to frames")
    peer = Peer(config, params, case.clip - 1).to(device).train()
    linear = {id(m.weight) for m in peer.modules() if isinstance(m, nn.Linear)}
    decayed = [p for p in peer.parameters() if id(p) in linear]
    others = [p for p in peer.parameters() if id(p) not in linear]
    groups = [{"params": decayed, "weight_decay": OPTIMIZER.weight_decay}, {"params": others, "weight_decay": 0.0}]
    betas = (OPTIMIZER.b1, OPTIMIZER.b2)
    adam = torch.optim.AdamW(groups, lr=RATE, betas=betas, eps=OPTIMIZER.eps, fused=True)
    run = torch.compile(peer) if compiled else peer
    batches = list(zip(torch.from_numpy(w).to(device), torch.from_numpy(codes).long().to(device), strict=True))
    parameters = list(peer.parameters())

    def call() -> torch.Tensor:
        losses = []
        for batch in batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=case.dtype == "bfloat16"):
                loss = run(*batch)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, OPTIMIZER.clip_norm)
            adam.step()
            adam.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        if device.type == "cuda":
            torch.cuda.synchronize()
        return torch.stack(losses)

    return call, float(call().mean())


def measure(case: Case, device: torch.device, *, rounds: int, peers: Sequence[str]) -> list[Row]:
    """Rows of one case: a step beside each peer, and on a GPU the share of its peak."""
    ours, loss = ours_of(case)
    functions = {"ours": ours}
    for name in peers:
        functions[name], other = theirs_of(case, device, compiled=name == "compiled")
        if not abs(loss - other) <= TOLERANCE[case.dtype] * abs(loss):
            raise SystemExit(f"{case.title}: our loss is {loss:.6f}, that of the peer {other:.6f}: not the same step")
    product = Matmul() if device.type == "cpu" else None
    taken = interleaved(functions | ({"product": product} if product else {}), rounds=rounds, warmup=2)
    goals = {"compiled": GOAL[device.type]}
    rows = [
        compare(case.title, taken["ours"], f"x-transformers, {name}", taken[name], goal=goals.get(name), per=case.steps)
        for name in peers
    ]
    rows.append(figure(f"{case.title}: tokens a second", case.tokens / taken["ours"].median, "tokens/s"))
    if product is not None:
        rate = product.flop / taken["product"].median  # of the same rounds: nothing in float32 is faster
        limit = case.steps * step_flop(case) / rate
        names = {"ours": "ours"} | {name: f"x-transformers, {name}" for name in peers}
        rows += [
            figure(f"{case.title}: share of the matrix-product rate, {words}", limit / taken[name].median, "")
            for name, words in names.items()
        ]
    if device.type == "cuda" and case.dtype == "bfloat16":
        rows += share_of_peak(case, taken["ours"].median / case.steps)
    return rows


def share_of_peak(case: Case, seconds: float) -> list[Row]:
    """Operations a second of a step over those of a large matrix product in the same run, and over the nominal peak."""
    rate = step_flop(case) / seconds
    name = torch.cuda.get_device_name(0)
    peaks = {"a large bfloat16 matrix product": matmul_flops(dtype=torch.bfloat16, device="cuda")}
    peaks |= {f"the nominal peak of {part}": peak for part, peak in NOMINAL.items() if part in name}
    rows = [figure(f"{case.title}: operations a second", rate / 1e12, "TFLOP/s")]
    return rows + [
        figure(f"{case.title}: share of {peak}", rate / at, "", least=LEAST_SHARE) for peak, at in peaks.items()
    ]


def step_flop(case: Case) -> int:
    """Operations of an optimiser step: three times those of the forward pass (the backward pass has two products for
    each of its products), without those of the optimiser."""
    config = case.model
    model = DynamicsModel(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    w = jax.ShapeDtypeStruct((case.batch, case.clip - 1, config.rows, config.style_dim), jnp.float32)
    codes = jax.ShapeDtypeStruct((case.batch, case.clip - 1), jnp.int32)
    return 3 * count_flops(model.apply, params, w, codes)


def chosen(word: str, device: str) -> Case:
    """The case "PRESET:BATCH", in bfloat16 on a GPU."""
    name, _, batch = word.partition(":")
    return Case(name, int(batch), 10 if device == "cuda" else 1, "bfloat16" if device == "cuda" else "float32")


def main() -> None:
    parser = arguments(__doc__, rounds=10, devices=("cpu", "cuda"))
    parser.add_argument("--case", action="append", help="PRESET:BATCH in place of the usual cases; may be repeated")
    options = parser.parse_args()
    keep_freed_memory()  # as training does, before JAX starts its threads
    device, _ = choose_devices(options.device)
    cases = {"cpu": CPU, "cuda": CUDA}[options.device]
    cases = QUICK if options.quick else [chosen(word, options.device) for word in options.case or ()] or cases
    peers = ("eager",) if options.quick else ("eager", "compiled")  # compiling takes minutes
    rounds = 2 if options.quick else options.rounds
    rows = [row for case in cases for row in measure(case, device, rounds=rounds, peers=peers)]
    finish("dynamics_training", "Training step of the dynamics", rows, options)


if __name__ == "__main__":
    main()
