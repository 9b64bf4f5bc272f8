"""Whether play reads the weights of the dynamics in half precision: as named, or if a short measurement says so.

It counts only where each of its steps leads to the frame that one of float32 does from the same state, within the
tolerance of `measured`. Rollouts side by side, prompts and so evaluations read float32, whatever is chosen here.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_bridge.latent_player import Knobs, LatentPlayer, LatentState, Step
from torch_bridge.runtimes.measured import (
    Chosen,
    Unavailable,
    checksum,
    fault_between,
    keep,
    kept,
    machine_key,
    medians,
)

NAMED = ("float32", "float16")
WEIGHTS = (*NAMED, "auto", "measure")
PROBE_STEPS = 3

Draw = Callable[[jax.Array], Tensor]  # w_BLD -> uint8 frames


def choose_weights(
    wanted: str, player: LatentPlayer, probes_NLD: Float[np.ndarray, "N L D"], knobs: Knobs, draw: Draw
) -> tuple[Step, Chosen]:
    """The step of one rollout, and what is known of it.

    Args:
        wanted: "float32", "float16"; "auto" for the fastest, measured once on this machine; "measure" to
            measure anew.
        player: whose weights they are.
        probes_NLD: w as play has them.
        knobs: settings of the steps that are compared.
        draw: frames of w, always the same for the same w.

    Raises:
        ValueError: there is no such form, it is none for this device or this JAX, or it leads to other frames.
    """
    if wanted not in WEIGHTS:
        raise ValueError(f"There are no weights {wanted!r}. Choose one of {', '.join(WEIGHTS)}.")
    if wanted == "float32":
        return player.step, Chosen(wanted)
    if wanted in NAMED:
        step = _step(player, wanted, probes_NLD[0], knobs)
        if fault := _fault(step, player, probes_NLD, knobs, draw):
            raise ValueError(f"Weights in {wanted!r} lead to other frames: {fault}. Choose float32.")
        return step, Chosen(wanted)
    key = _key(player, probes_NLD, knobs, draw)
    known = None if wanted == "measure" else kept(key, NAMED)
    if known is not None:
        try:
            return _step(player, known.name, probes_NLD[0], knobs), known
        except Unavailable:  # something was taken away since
            pass
    step, chosen = _measure(player, probes_NLD, knobs, draw)
    keep(key, chosen)
    return step, chosen


def _step(player: LatentPlayer, name: str, w_LD: np.ndarray, knobs: Knobs) -> Step:
    """The step of a form, compiled."""
    if name == "float32":
        return player.step
    if (platform := _platform(player)) != "cpu":
        raise Unavailable(f"Weights in {name} are for a CPU, and the dynamics are on {platform}. Choose float32.")
    try:
        step = player.half_step()
        step(_start(player, w_LD, knobs), _code(player, 0), knobs)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise Unavailable(
            f"JAX {jax.__version__} cannot compile weights in {name}: {reason}. Choose float32."
        ) from error
    return step


def _measure(player: LatentPlayer, probes_NLD: np.ndarray, knobs: Knobs, draw: Draw) -> tuple[Step, Chosen]:
    ready: dict[str, Step] = {"float32": player.step}
    left_out: dict[str, str] = {}
    try:
        half = _step(player, "float16", probes_NLD[0], knobs)
        fault = _fault(half, player, probes_NLD, knobs, draw)
    except Unavailable as error:
        fault = str(error)
    if fault:
        left_out["float16"] = fault
    else:
        ready["float16"] = half
    if len(ready) == 1:
        return player.step, Chosen("float32", "measured", {}, left_out)
    seconds = medians({name: _stepping(step, player, probes_NLD[0], knobs) for name, step in ready.items()})
    name = min(seconds, key=lambda one: seconds[one])
    return ready[name], Chosen(name, "measured", seconds, left_out)


def _fault(step: Step, player: LatentPlayer, probes_NLD: np.ndarray, knobs: Knobs, draw: Draw) -> str:
    pairs = []
    for number, w_LD in enumerate(probes_NLD):
        state = _start(player, w_LD, knobs)
        for code in range(PROBE_STEPS):  # each from the same state: what a step makes of it, not where chance leads
            codes_B = _code(player, (number + code) % player.model.config.codes)
            _, ours_BLD = step(player.copy(state), codes_B, knobs)
            state, theirs_BLD = player.step(state, codes_B, knobs)
            pairs.append((draw(ours_BLD), draw(theirs_BLD)))
    return fault_between(pairs)


def _stepping(step: Step, player: LatentPlayer, w_LD: np.ndarray, knobs: Knobs) -> Callable[[], object]:
    state, codes_B = _start(player, w_LD, knobs), _code(player, 0)

    def call() -> None:
        nonlocal state
        state, w_BLD = step(state, codes_B, knobs)
        w_BLD.block_until_ready()

    return call


def _start(player: LatentPlayer, w_LD: np.ndarray, knobs: Knobs) -> LatentState:
    device = player.w_mean_LD.sharding
    return player.start([jax.device_put(w_LD[None], device)], [], knobs, jax.device_put(np.zeros(1, np.uint32), device))


def _code(player: LatentPlayer, number: int) -> jax.Array:
    return jax.device_put(np.array([number], np.int32), player.w_mean_LD.sharding)


def _platform(player: LatentPlayer) -> str:
    (device,) = player.w_mean_LD.devices()
    return device.platform


def _key(player: LatentPlayer, probes_NLD: np.ndarray, knobs: Knobs, draw: Draw) -> dict[str, Any]:
    """All that the choice depends on."""
    frames = draw(jax.device_put(probes_NLD, player.w_mean_LD.sharding))  # the decoder and the statistics of w
    return machine_key("jax", "jaxlib") | {
        "choice": "weights",
        "platform": _platform(player),
        "dynamics": asdict(player.model.config),
        "knobs": [str(knob) for knob in knobs],
        "weights": checksum(map(np.asarray, jax.tree.leaves(player.params))),
        "compared": checksum([frames.cpu().numpy()]),
    }
