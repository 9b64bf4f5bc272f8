"""How play reads the dynamics' weights, and what encodes its frames: the same play, the choice, refusals."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import make_world, moving_squares

from app.cli import main
from torch_bridge import latent_player, play_networks
from torch_bridge.bundle import read_world
from torch_bridge.images import to_float
from torch_bridge.latent_player import LatentPlayer
from torch_bridge.play_encoder import with_rounded_products
from torch_bridge.runtimes import choose_runtime, encoder_part, measured, parts, weights
from torch_bridge.runtimes.frame_net import FrameNet
from torch_bridge.runtimes.measured import Unavailable
from torch_bridge.world import World

CODES = [1, 0, 3, 3, 2, 5, 1]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENIE_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(measured, "MEASURE_SECONDS", 0.0)
    return tmp_path / "kept"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("weights") / "world")


@pytest.fixture(scope="module")
def shared(folder: Path) -> World:
    return World.load(folder)


@pytest.fixture
def world(shared: World) -> World:
    shared.use_weights("float32")
    shared.use_runtime("eager")
    return shared


def film(world: World, reencode_every: int = 0) -> np.ndarray:
    world.reset(moving_squares(5), reencode_every=reencode_every)
    return world.rollout(CODES).astype(int)


def test_sessions_read_half_precision_and_batches_do_not(world: World) -> None:
    exact = film(world)
    world.use_weights("float16")
    assert world.weights.name == "float16"
    together = film(world)
    world.reset(moving_squares(5), reencode_every=0)
    np.testing.assert_array_equal(together, np.stack([world.step(code) for code in CODES]))
    assert 0 < np.abs(together - exact).max() <= 2 * measured.TOLERANCE  # rounding grows from step to step
    batch = world.rollout_batch(moving_squares(5)[None], None, np.array([CODES]), reencode_every=0)[0]
    np.testing.assert_array_equal(batch, exact)
    assert world.player.compiled_steps() == 1


def test_snapshots_hold_where_half_precision_leads(world: World) -> None:
    world.use_weights("float16")
    session = world.session()
    session.reset(moving_squares(5))
    session.step(1)
    place = session.snapshot()
    first = [session.step(code) for code in CODES]
    session.restore(place)
    np.testing.assert_array_equal(first, [session.step(code) for code in CODES])


def test_the_choice_is_measured_once_and_kept(world: World, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.use_weights("auto")
    first = world.weights
    assert (first.how, set(first.seconds) | set(first.left_out)) == ("measured", set(weights.NAMED))
    assert len(list(kept.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(weights, "_measure", lambda *_: pytest.fail("measured again"))
        world.use_weights("auto")
        assert world.weights == dataclasses.replace(first, how="cached")
    world.use_weights("measure")
    assert world.weights.how == "measured"


def test_what_leads_to_other_frames_is_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(player: LatentPlayer) -> latent_player.Step:
        def step(state, codes_B, knobs):
            state, w_BLD = player.step(state, codes_B, knobs)
            return state, w_BLD + 1.0

        return step

    monkeypatch.setattr(LatentPlayer, "half_step", wrong)
    with pytest.raises(ValueError, match=r"Weights in 'float16' lead to other frames: up to .* Choose float32\."):
        world.use_weights("float16")
    world.use_weights("measure")
    assert world.weights.name == "float32"
    assert set(world.weights.left_out) == {"float16"}


def test_a_jax_that_cannot_compile_it_does_without(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_player, "compiler_options", lambda: {"xla_cpu_no_such_option": True})
    with pytest.raises(Unavailable, match=r"cannot compile weights in float16: .*no_such_option.* Choose float32\."):
        world.use_weights("float16")
    world.use_weights("auto")
    assert world.weights.name == "float32"
    assert "no_such_option" in world.weights.left_out["float16"]


@pytest.mark.parametrize("fast", weights.NAMED)
def test_the_fastest_is_taken_and_taken_again(world: World, monkeypatch: pytest.MonkeyPatch, fast: str) -> None:
    monkeypatch.setattr(weights, "medians", lambda calls: {name: 1.0 + (name != fast) for name in calls})
    world.use_weights("auto")
    assert (world.weights.name, world.weights.how) == (fast, "measured")
    exact = world.latent_step == world.player.step
    world.use_weights("auto")
    assert (world.weights.name, world.weights.how) == (fast, "cached")
    assert (world.latent_step == world.player.step) == exact == (fast == "float32")


def test_the_choice_of_other_statistics_is_another(world: World, folder: Path) -> None:
    world.use_weights("auto")
    manifest, tensors, prompts = read_world(folder)
    wider = {**tensors, "dynamics": {**tensors["dynamics"], "w_std": 1.5 * np.asarray(tensors["dynamics"]["w_std"])}}
    other = World(manifest, wider, prompts, runtime="auto", weights="auto")
    assert (other.weights.how, other.encoding.how) == ("measured", "measured")


def test_an_accelerator_keeps_float32(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_platform", lambda _: "gpu")
    with pytest.raises(Unavailable, match=r"are for a CPU, and the dynamics are on gpu\. Choose float32"):
        world.use_weights("float16")


def test_an_unknown_form_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", str(folder), "--steps", "3", "-o", "film.png", "--weights", "int4"]) == 2
    assert "--weights int4: There are no weights 'int4'. Choose one of float32" in capsys.readouterr().err


def test_the_command_line_names_them(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.png"
    assert main(["rollout", str(folder), "--steps", "3", "-o", str(film), "--weights", "float16"]) == 0
    assert film.is_file()
    assert "weights of the dynamics in float16" in capsys.readouterr().out


def test_a_world_draws_and_encodes_in_integers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "WORST_PSNR", 0.0)
    monkeypatch.setattr(measured, "LEAST_PSNR", 0.0)  # an encoder that was not trained finds w of very unlike lengths
    exact = film(world, reencode_every=2)
    world.use_runtime(parts.ROUNDED)
    assert (world.runtime.name, world.encoding.name) == (parts.ROUNDED, parts.ROUNDED)
    assert not np.array_equal(film(world, reencode_every=2)[0], exact[0])
    # its steps are from frames of the prompts, whose w are larger than those that are drawn
    w_NLD = world.encode(world.prompts["00"])
    seen = play_networks._seen_latents(world.codec, world.player, world.prompts)
    rounded = FrameNet(world.codec.decoder.with_rounded_products(seen))
    for w_LD in torch.from_numpy(np.array(w_NLD)):
        assert (world.networks.draw(w_LD[None]).int() - rounded(w_LD[None])).abs().float().mean() < 0.1


@pytest.mark.parametrize("prompts", [True, False])
def test_what_encodes_in_integers_takes_its_steps_from_the_prompts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, prompts: bool
) -> None:
    """Not from the frames by which it is judged, also where there are no prompts."""
    monkeypatch.setattr(measured, "WORST_PSNR", 0.0)
    monkeypatch.setattr(measured, "LEAST_PSNR", 0.0)
    manifest, tensors, clips = read_world(folder)
    world = World(manifest, tensors, clips if prompts else {}, runtime=parts.ROUNDED)
    codec = world.codec
    frames = torch.from_numpy(moving_squares(4))
    compared = codec.decode(play_networks._probes(world.player, play_networks.PROBES))
    seen = play_networks._seen_frames(codec, world.player, world.prompts)
    assert not any(torch.equal(one, other) for one in seen for other in compared)

    @torch.no_grad()
    def apart(steps_from: torch.Tensor | None) -> float:
        net = codec.encoder if steps_from is None else with_rounded_products(codec.encoder, to_float(steps_from))
        ours = torch.cat([world.networks.encode(frame[None]) for frame in frames])
        return float((ours - net(to_float(frames))).square().mean())

    assert apart(seen) < 0.3 * apart(None)
    assert apart(seen) < 0.3 * apart(compared)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_frames_are_encoded_by_the_runtime_and_prompts_by_the_codec(world: World, name: str) -> None:
    exact, w = film(world, reencode_every=1), world.encode(moving_squares(5))
    world.use_runtime(name)
    assert world.encoding.name == name
    np.testing.assert_array_equal(world.encode(moving_squares(5)), w)  # compiling it has left the encoder as it was
    called, stages = [], world.networks.encode.stages
    first = stages[0]
    stages[0] = lambda frames: called.append(len(frames)) or first(frames)
    near = film(world, reencode_every=1)
    assert np.abs(near - exact)[:2].max() <= measured.TOLERANCE  # random weights magnify what comes later
    assert called == [1] * len(CODES)


def test_a_runtime_that_fails_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.runtime, world.encoding, world.networks.draw, world.networks.encode
    monkeypatch.setattr(parts, "W_TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="'onnx' has another w"):
        world.use_runtime("onnx")
    assert (world.runtime, world.encoding, world.networks.draw, world.networks.encode) == before


def test_an_encoder_that_finds_another_w_is_left_out(world: World) -> None:
    frames = torch.from_numpy(moving_squares(4))
    part = encoder_part(world.codec.encoder, lambda: frames, torch.ones(1, world.config.style_dim), world.codec.decode)
    w = torch.zeros(1, 1, world.config.style_dim)
    assert part.fault("openvino", [(w, w + 0.009)]) == ""
    assert "0.500 standard deviations apart" in part.fault("openvino", [(w, w), (w, w + 0.5)])
    shifted = dataclasses.replace(part, network=lambda name: torch.nn.Sequential(part.network(name), Shift(name)))
    with pytest.raises(ValueError, match="'openvino' has another w: up to"):
        choose_runtime("openvino", shifted)


class Shift(torch.nn.Module):
    """Adds one, but not in eager."""

    def __init__(self, runtime: str) -> None:
        super().__init__()
        self.by = 0.0 if runtime == "eager" else 1.0

    def forward(self, w_BLD: torch.Tensor) -> torch.Tensor:
        return w_BLD + self.by
