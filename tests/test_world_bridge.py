"""w passes from the dynamics to the decoder, and of prompts from the encoder to the dynamics, by reference."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import SIZE, world_parts

import torch_bridge.world
from torch_bridge.exchange import to_jax
from torch_bridge.mobile_stylegan import PlayDecoder
from torch_bridge.world import World

CUDA = torch.cuda.is_available() and jax.default_backend() == "gpu"
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not CUDA, reason="needs a CUDA GPU for both"))]


@pytest.fixture(scope="module", params=DEVICES)
def world(request: pytest.FixtureRequest) -> World:
    return World(*world_parts(rows=8), device=request.param)


@contextmanager
def no_host_copies() -> Iterator[list[Tensor]]:
    """Refuses JAX's transfers between host and device, and notes what PyTorch brings to the host."""
    brought: list[Tensor] = []

    def note(method: Any) -> Any:
        def noting(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            brought.append(tensor)
            return method(tensor, *args, **kwargs)

        return noting

    with pytest.MonkeyPatch.context() as patch, jax.transfer_guard("disallow_explicit"):
        for name in ("cpu", "numpy", "tolist", "item", "__array__"):
            patch.setattr(Tensor, name, note(getattr(Tensor, name)))
        yield brought


@contextmanager
def decoder_inputs(decoder: PlayDecoder) -> Iterator[list[int]]:
    """Addresses of the w that the decoder is given."""
    seen: list[int] = []
    pixels = decoder.pixels
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "pixels", lambda w: seen.append(w.data_ptr()) or pixels(w))
        yield seen


def dynamics_outputs(world: World, patch: pytest.MonkeyPatch) -> list[jax.Array]:
    """The w that the dynamics returns, kept so that no other array can get its address."""
    kept: list[jax.Array] = []
    step = world.latent_step

    def keeping(*args: Any) -> Any:
        state, w_BLD = step(*args)
        kept.append(w_BLD)
        return state, w_BLD

    patch.setattr(world, "latent_step", keeping)
    return kept


def test_a_step_hands_w_to_the_decoder_by_reference(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.reset(next(iter(world.prompts.values())))
    world.step(0)  # compiles, which needs transfers
    returned = dynamics_outputs(world, monkeypatch)
    with no_host_copies() as brought, decoder_inputs(world.codec.decoder) as seen:
        frames = [world.step(code) for code in (1, 3, 2)]
    assert seen == [w_BLD.unsafe_buffer_pointer() for w_BLD in returned]
    assert len(set(seen)) == 3
    assert {(tensor.dtype, tuple(tensor.shape)) for tensor in brought} == {(torch.uint8, (SIZE, SIZE, 3))}
    assert all(isinstance(frame, np.ndarray) for frame in frames)


def test_a_prompt_hands_w_to_the_dynamics_by_reference(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, started = [], []
    encode, start = world.codec.encode, world.player.start
    monkeypatch.setattr(world.codec, "encode", lambda frames: encoded.append(encode(frames)) or encoded[-1])
    monkeypatch.setattr(world.player, "start", lambda w, *rest: started.append(w) or start(w, *rest))
    prompt = next(iter(world.prompts.values()))[:4]
    world.reset(prompt, [0, 1, 2])
    (w_TLD,), (w_TBLD,) = encoded, started
    assert [w_BLD.unsafe_buffer_pointer() for w_BLD in w_TBLD] == [w_LD.data_ptr() for w_LD in w_TLD]


def test_a_step_through_host_memory_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(*world_parts(rows=1), device="cpu")
    world.reset(next(iter(world.prompts.values())))
    world.step(0)
    returned = dynamics_outputs(world, monkeypatch)
    with decoder_inputs(world.codec.decoder) as seen:
        world.step(1)
        monkeypatch.setattr(torch_bridge.world, "to_torch", lambda w, **_: torch.from_numpy(np.array(w)))
        world.step(2)
    addresses = [w_BLD.unsafe_buffer_pointer() for w_BLD in returned]
    assert seen[0] == addresses[0]
    assert seen[1] != addresses[1]
    with no_host_copies() as brought:
        torch.ones(3).cpu()
    assert len(brought) == 1
    with no_host_copies(), pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
        jax.device_put(np.ones(3))


def test_the_bridge_transfers_nothing() -> None:
    tensor = torch.ones(64)
    with jax.transfer_guard("disallow_explicit"):
        array = to_jax(tensor, device=jax.devices("cpu")[0])
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
