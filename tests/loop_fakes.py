"""Small stages that learn something trivial, one for each framework, and a program that trains one of them."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import train.loop
from train.stage import Pace

HOLD_SECONDS = 2.0


def wait(step: int, hold: int | None) -> None:
    """At step `hold`, wait to be killed or told to stop."""
    if step == hold:
        print("holding", flush=True)
        time.sleep(HOLD_SECONDS)


class TorchStage:
    """A line fitted by Adam on noise drawn from (seed, step), with an average of the weights."""

    name, framework, steps_per_call = "fake", "torch", 1

    def __init__(
        self, steps: int = 30, *, bad_steps: tuple[int, ...] = (), hold: int | None = None, **pace: Any
    ) -> None:
        import torch

        self.pace = Pace(steps, **{"preview_every": 10, "checkpoint_seconds": 1e9, **pace})
        self.torch, self.bad_steps, self.hold = torch, list(bad_steps), hold
        self.weight = torch.zeros(3, requires_grad=True)
        self.average = torch.zeros(3)
        self.optimizer = torch.optim.Adam([self.weight], lr=0.1)
        self.seen: list[tuple[int, float]] = []

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        self.seen.append((step, lr_scale))
        wait(step, self.hold)
        noise = self.torch.randn(3, generator=self.torch.Generator().manual_seed(step))
        loss = ((self.weight - 1 + 0.1 * noise) ** 2).sum()
        if step in self.bad_steps:
            self.bad_steps.remove(step)
            loss = loss * float("nan")
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 * lr_scale * (1 - 0.5 * progress)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average = 0.9 * self.average + 0.1 * self.weight.detach()
        return {"loss": loss.detach()}

    def state(self) -> dict[str, Any]:
        return {"weight": self.weight.detach(), "average": self.average, "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.weight.data.copy_(state["weight"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])

    def preview(self) -> dict[str, np.ndarray]:
        return {"grid": np.full((4, 4, 3), 7, np.uint8)}

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        return {"line": {"weight": self.weight.detach().numpy(), "average": self.average.numpy()}}

    def health(self) -> list[str]:
        return ["the weight is small"] if float(self.weight.detach().abs().max()) < 0.5 else []


class JaxStage:
    """The same line through `genie_jax.training`: donated state, two steps a call."""

    name, framework, steps_per_call = "fake", "jax", 2

    def __init__(self, steps: int = 30, *, hold: int | None = None, **pace: Any) -> None:
        import jax
        import jax.numpy as jnp

        from genie_jax.training import OptimizerConfig, init_state, make_optimizer, make_train_step

        self.pace = Pace(steps, **{"preview_every": 10, "checkpoint_seconds": 1e9, **pace})
        self.config, self.hold = OptimizerConfig(learning_rate=0.1, warmup=0), hold

        def loss(params: Any, extra: Any, batch: Any, *, key: Any) -> Any:
            noise = jax.random.normal(key, (3,))
            return jnp.sum((params["kernel"] - 1 + 0.1 * noise) ** 2), (extra + batch, {})

        def one(data: Any, step: Any, key: Any) -> Any:  # noqa: ARG001 - a BatchFn
            return data

        optimizer = make_optimizer(self.config)
        self.train_state = init_state({"kernel": jnp.zeros(3)}, optimizer, jnp.zeros(()))
        self.step = make_train_step(loss, optimizer, one, seed=0, steps_per_call=2)

    def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
        wait(step, self.hold)
        self.train_state, metrics = self.step(self.train_state, 1.0, step, self.config.rate(step, progress, lr_scale))
        return metrics

    def state(self) -> dict[str, Any]:
        return {"train": self.train_state, "calls": 3}

    def load_state(self, state: dict[str, Any]) -> None:
        self.train_state = state["train"]

    def preview(self) -> dict[str, np.ndarray]:
        return {}

    def result(self) -> dict[str, dict[str, np.ndarray]]:
        import jax

        leaves = jax.tree_util.tree_leaves_with_path(self.train_state)
        return {"line": {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}}

    def health(self) -> list[str]:
        return []


STAGES = {"torch": TorchStage, "jax": JaxStage}

if __name__ == "__main__":
    kind, place, hold = sys.argv[1:]
    train.loop.SAVE_COST = 0  # save after every step, however much of the time that takes
    train.loop.train_stage(STAGES[kind](hold=int(hold), checkpoint_seconds=0.0), Path(place), log=print)
