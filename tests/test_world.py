"""A world plays: all ways of rolling out agree, codes lead from frame to frame, and mistakes are told in words."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from worlds import CODES, DIM, SIZE, WINDOW, make_world, moving_squares, world_parts

import torch_bridge.rollout_batches
from genie_jax.flops import count_flops
from torch_bridge.latent_player import LatentPlayer
from torch_bridge.runtimes.measured import TOLERANCE
from torch_bridge.session import Session
from torch_bridge.world import World
from train.world import WorldConfig

CODE_LIST = [0, 3, 3, 1, 7, 2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world") / "w")


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return World.load(folder, device="cpu")


@pytest.fixture(scope="module")
def latent_world() -> World:
    """W+ instead of W, the action model on w, a dynamics without context noise."""
    return World(*world_parts(form="mlp", rows=8, context_noise=0.0), device="cpu")


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("name", ["world", "latent_world"])
def test_step_rollout_and_batch_agree(name: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue(name)
    prompts = np.stack(list(world.prompts.values()))
    singles = []
    for prompt in prompts:
        world.reset(prompt)
        stepped = np.stack([world.step(code) for code in CODE_LIST])
        world.reset(prompt)
        np.testing.assert_array_equal(world.rollout(CODE_LIST), stepped)
        singles.append(stepped)
    batch = world.rollout_batch(prompts, None, [CODE_LIST] * 2)
    assert batch.dtype == np.uint8
    assert batch.shape == (2, len(CODE_LIST), SIZE, SIZE, 3)
    assert apart(batch, np.stack(singles)) <= 1  # sums run in another order
    w_BSLD = world.rollout_latents(prompts, None, [CODE_LIST] * 2)
    assert apart(world.decode(w_BSLD[0]), batch[0]) <= 1
    assert apart(batch[:, 0], batch[:, -1]) > 20  # and they do move
    np.testing.assert_array_equal(world.rollout_batch(prompts, None, [CODE_LIST] * 2, steps=[3, 1]), batch[:, [2, 0]])


def test_groups_of_a_batch_agree_with_the_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = np.stack([moving_squares(3, seed=seed) for seed in range(3)])
    codes = np.arange(9).reshape(3, 3) % CODES
    whole = world.rollout_batch(prompts, [[1, 2]] * 3, codes)
    w_whole = world.rollout_latents(prompts, [[1, 2]] * 3, codes)
    monkeypatch.setattr(torch_bridge.rollout_batches, "BATCH", 2)
    # Batches of another size sum in another order; a decoder of random weights makes a few grey levels of it.
    w_groups = world.rollout_latents(prompts, [[1, 2]] * 3, codes)
    np.testing.assert_allclose(w_groups, w_whole, atol=1e-4 * w_whole.std())
    groups = world.rollout_batch(prompts, [[1, 2]] * 3, codes)
    assert np.abs(groups.astype(int) - whole.astype(int)).mean() < 0.1
    assert np.abs(groups[::-1].astype(int) - whole.astype(int)).mean() > 1  # and rollouts do differ


@pytest.mark.parametrize("length", [1, 16])
def test_codes_lead_from_frame_to_frame(world: World, length: int) -> None:
    """The first generated w is what the uncached model predicts from the window's w and codes[t] at frame t."""
    frames, codes = moving_squares(length), np.arange(length - 1) % CODES
    w_TLD = jnp.asarray(world.encode(frames[-WINDOW:]))
    taken = jnp.asarray([*codes[max(0, length - WINDOW) :], 5])
    player = world.player
    uncached = player.model.apply(
        player.params, player.normalise(w_TLD)[None], taken[None], noise_level_BT=jnp.zeros((1, len(taken)))
    )[0, -1]
    got = world.rollout_latents(frames[None], codes[None], [[5]])[0, 0]
    np.testing.assert_allclose(got, uncached * player.w_std_LD + player.w_mean_LD, rtol=0, atol=2e-4)


def test_codes_of_the_prompt_are_inferred_when_not_given(world: World, latent_world: World) -> None:
    for place in (world, latent_world):
        frames = moving_squares(40, seed=3)
        codes = place.infer_actions(frames)
        assert codes.shape == (39,)
        assert len(set(codes.tolist())) > 1
        np.testing.assert_array_equal(place.infer_actions(frames[20:23]), codes[20:22])
        place.reset(frames)
        inferred = place.rollout(CODE_LIST)
        place.reset(frames, codes)
        np.testing.assert_array_equal(place.rollout(CODE_LIST), inferred)
        place.reset(frames, (codes + 1) % CODES)
        assert apart(place.rollout(CODE_LIST), inferred) > 1


def test_only_the_last_window_counts(world: World) -> None:
    frames = moving_squares(16)
    world.reset(frames)
    whole = world.rollout(CODE_LIST)
    world.reset(frames[-WINDOW:])
    np.testing.assert_array_equal(world.rollout(CODE_LIST), whole)


def test_frames_of_any_size_are_resized(world: World) -> None:
    frames = moving_squares(2)
    large = frames.repeat(3, 1).repeat(3, 2)
    wide = np.concatenate([np.zeros_like(large[:, :, :30]), large, np.zeros_like(large[:, :, :30])], axis=2)
    np.testing.assert_array_equal(world.encode(wide), world.encode(large))
    resized = world.codec.resize(torch.from_numpy(wide)).numpy()
    assert np.abs(resized.astype(float) - frames).mean() < 2  # of 255; edges are smoothed
    world.reset(wide)
    assert world.step(0).shape == (SIZE, SIZE, 3)
    assert world.infer_actions(wide).shape == (1,)


def test_save_and_load_is_the_identity(world: World, tmp_path: Path) -> None:
    world.save(tmp_path / "copy")
    copy = World.load(tmp_path / "copy", device="cpu")
    assert copy.config == world.config
    for place in (world, copy):
        place.reset(place.prompts["01"])
    np.testing.assert_array_equal(world.rollout(CODE_LIST), copy.rollout(CODE_LIST))


def test_sessions_do_not_touch_each_other(world: World) -> None:
    one, two = world.session(), world.session()
    one.reset(world.prompts["00"])
    alone = one.rollout(CODE_LIST)
    one.reset(world.prompts["00"])
    two.reset(world.prompts["01"])
    frames = []
    for code in CODE_LIST:
        frames.append(one.step(code))
        two.step(0)
    np.testing.assert_array_equal(np.stack(frames), alone)


def test_snapshots_branch(world: World) -> None:
    player = world.session()
    player.reset(world.prompts["00"])
    player.rollout([1, 2])
    fork = player.snapshot()
    first = player.rollout(CODE_LIST)
    for _ in range(2):
        player.restore(fork)
        np.testing.assert_array_equal(player.rollout(CODE_LIST), first)
    player.restore(fork)
    assert apart(player.rollout([(code + 1) % CODES for code in CODE_LIST]), first) > 1


def test_play_goes_on_from_the_encoded_frame(world: World) -> None:
    """Every n steps the generated w is replaced by that of its own frame, in a session as in a batch."""
    prompt, codes = world.prompts["00"], [1, 2, 3, 4, 5, 6, 7]
    rollouts = {}
    for every in (0, 1, 3):
        world.reset(prompt, reencode_every=every)
        rollouts[every] = world.rollout(codes)
        batch = world.rollout_batch(prompt[None], None, [codes], reencode_every=every)
        np.testing.assert_array_equal(batch[0], rollouts[every])
    np.testing.assert_array_equal(rollouts[3][:3], rollouts[0][:3])
    np.testing.assert_array_equal(rollouts[1][:1], rollouts[0][:1])
    assert apart(rollouts[3][3:], rollouts[0][3:]) > 0
    assert apart(rollouts[1][1:], rollouts[3][1:]) > 0
    # The same by hand: the frame of step 3 is encoded, and the next step starts from it.
    knobs = world.knobs()
    state = world.start(prompt[None], None, knobs)
    for code in codes[:3]:
        state, frame = world.advance(state, code, knobs)
    state = state._replace(w_BLD=world.player.normalise(world.encode(frame.numpy())))
    np.testing.assert_array_equal(world.advance(state, codes[3], knobs)[1][0], rollouts[3][3])


@pytest.mark.parametrize("steps", [2, 3])  # one before an encoding is due; half of it is done
def test_a_snapshot_remembers_when_the_next_encoding_is_due(world: World, steps: int) -> None:
    player, other = world.session(), world.session()
    for one in (player, other):
        one.reset(world.prompts["00"], reencode_every=3)
    whole = other.rollout([1] * steps + CODE_LIST)[steps:]
    player.rollout([1] * steps)
    fork = player.snapshot()
    np.testing.assert_array_equal(player.rollout(CODE_LIST), whole)
    player.rollout([2] * (6 - len(CODE_LIST) % 3))  # an encoding may be half done: it is not that of the snapshot
    player.restore(fork)
    np.testing.assert_array_equal(player.rollout(CODE_LIST), whole)


@pytest.fixture
def halfway(world: World) -> Iterator[tuple[Session, np.ndarray]]:
    """A player whose newest frame is half encoded, and the frames of codes 4 and 5 from there."""
    other, player = world.session(), world.session()
    for one in (other, player):
        one.reset(world.prompts["00"], reencode_every=3)
    frames = other.rollout([1, 2, 3, 4, 5])[3:]
    player.rollout([1, 2, 3])
    other.reset(world.prompts["00"], reencode_every=0)
    assert apart(other.rollout([1, 2, 3, 4])[3], frames[0]) > 2 * TOLERANCE  # without the encoding
    yield player, frames
    world.use_runtime("eager")


def test_w_that_was_found_lies_where_w_that_was_drawn_does(caplog: pytest.LogCaptureFixture) -> None:
    """Else the next step would be compiled for itself."""
    world = World(*world_parts())
    one = world.session()
    one.reset(world.prompts["00"], reencode_every=0)
    drawn = one.snapshot().state.w_BLD
    with jax.log_compiles():
        world.player.normalise(np.array(drawn))  # as play hands it over on a CPU; the prompt's came as an array of JAX
        assert "Finished XLA compilation" not in caplog.text
        jax.jit(lambda x: x + 1)(drawn)
        assert "Finished XLA compilation" in caplog.text
    one.snap()
    found = one.snapshot().state.w_BLD
    assert found.committed
    assert (found.sharding, found.dtype, found.shape) == (drawn.sharding, drawn.dtype, drawn.shape)


def test_going_elsewhere_leaves_a_half_encoding_behind(world: World, halfway: tuple[Session, np.ndarray]) -> None:
    player, frames = halfway
    player.reset(world.prompts["00"], reencode_every=3)
    start = player.snapshot()
    player.rollout([1, 2, 3])
    player.restore(start)
    np.testing.assert_array_equal(player.rollout([1, 2, 3, 4, 5])[3:], frames)


def test_settings_do_not_take_back_an_encoding_that_was_due(halfway: tuple[Session, np.ndarray]) -> None:
    player, frames = halfway
    player.set_knobs(reencode_every=0)
    np.testing.assert_array_equal(player.rollout([4, 5]), frames)


def test_the_halves_may_be_of_two_runtimes(world: World, halfway: tuple[Session, np.ndarray]) -> None:
    player, frames = halfway
    world.use_runtime("onnx")
    assert apart(player.step(4), frames[0]) <= TOLERANCE


def test_snapping_finishes_an_encoding_first(world: World, halfway: tuple[Session, np.ndarray]) -> None:
    player, _ = halfway
    before = player.snapshot()
    w_BLD = world.snapped(world.finish_encoding(LatentPlayer.copy(before.state), before.begun)).w_BLD
    player.snap()
    after = player.snapshot()
    assert after.begun is None
    np.testing.assert_array_equal(after.state.w_BLD, w_BLD)


def test_settings_of_play_for_all_players(world: World) -> None:
    manifest, tensors, prompts = world_parts(reencode_every=2)
    other = World(manifest, tensors, prompts, device="cpu")
    assert other.reencode_every() == 2
    other.play_with(reencode_every=0, clamp=3.0)
    assert (other.reencode_every(), float(other.knobs().clamp)) == (0, 3.0)
    other.reset(prompts["00"])
    world.reset(prompts["00"], clamp=3.0)
    np.testing.assert_array_equal(other.rollout(CODE_LIST), world.rollout(CODE_LIST))
    with pytest.raises(ValueError, match="reencode_every must be 0"):
        other.play_with(reencode_every=-1)
    with pytest.raises(ValueError, match="clamp must be positive"):
        other.play_with(clamp=0)
    with pytest.raises(ValueError, match="reencode_every -2"):
        WorldConfig(reencode_every=-2)


def test_clamp_and_noise_level(world: World, latent_world: World) -> None:
    prompt, codes = world.prompts["00"][None], [[1, 2, 3, 4] * 5]
    free = np.asarray(world.player.normalise(world.rollout_latents(prompt, None, codes)))
    held = np.asarray(world.player.normalise(world.rollout_latents(prompt, None, codes, clamp=0.5)))
    assert np.abs(free).max() > 0.6
    assert np.abs(held).max() <= 0.5 + 1e-4
    trusting = world.rollout_latents(prompt, None, codes)
    wary = world.rollout_latents(prompt, None, codes, noise_level=0.5)
    assert np.abs(trusting - wary).max() > 1e-3
    manifest, tensors, prompts = world_parts(clamp=0.5)
    by_default = World(manifest, tensors, prompts, device="cpu")
    assert float(by_default.knobs().clamp) == 0.5
    assert float(by_default.knobs(clamp=2).clamp) == 2
    with pytest.raises(ValueError, match="noise_level must lie"):
        latent_world.reset(moving_squares(1), noise_level=0.1)
    with pytest.raises(ValueError, match="clamp must be positive"):
        world.reset(moving_squares(1), clamp=-1)


def test_play_neither_compiles_again_nor_grows(world: World) -> None:
    world.reset(world.prompts["00"])
    world.step(0)
    compiled, arrays = world.player.compiled_steps(), len(jax.live_arrays())
    for number in range(3 * WINDOW):
        world.step(number % CODES)
    world.reset(moving_squares(2), clamp=3.0)
    for number in range(WINDOW):
        world.step(number % CODES)
    assert world.player.compiled_steps() == compiled
    assert len(jax.live_arrays()) <= arrays


def test_parameters_are_those_that_play_loads(world: World) -> None:
    counts = world.parameters()
    assert counts["total"] == sum(count for part, count in counts.items() if part != "total")
    trained = world_parts()[1]
    size = {part: sum(array.size for array in named.values()) for part, named in trained.items()}
    assert counts["encoder"] == size["encoder"]
    assert counts["dynamics"] == size["dynamics"]
    assert counts["decoder"] < size["decoder"]  # without the training heads
    assert counts["actions"] < size["actions"]  # without the decoder


def test_arithmetic_is_counted(world: World) -> None:
    cost = world.gflop_per_frame()
    assert cost["total"] == pytest.approx(cost["decoder"] + cost["dynamics"])
    kernels = sum(
        leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(world.player.params) if path[-1].key == "kernel"
    )
    assert 2 * kernels <= cost["dynamics"] * 1e9 < 3 * kernels  # each weight once, and attention
    manifest, tensors, prompts = world_parts(reencode_every=4)
    again = World(manifest, tensors, prompts, device="cpu").gflop_per_frame()
    manifest, tensors, prompts = world_parts(reencode_every=1)
    always = World(manifest, tensors, prompts, device="cpu").gflop_per_frame()
    assert again["encoder"] == pytest.approx(always["encoder"] / 4)
    assert cost["encoder"] == 0 < again["total"] - cost["total"]


def test_flops_of_products_convolutions_and_loops() -> None:
    a, b = jnp.zeros((2, 3, 5)), jnp.zeros((2, 5, 7))
    assert count_flops(jnp.matmul, a, b) == 2 * 2 * 3 * 5 * 7
    assert count_flops(jax.jit(lambda a, b: jax.lax.scan(lambda c, _: (c, a @ b), 0, None, length=4)), a, b) == 4 * 420
    image, kernel = jnp.zeros((1, 6, 8, 8)), jnp.zeros((4, 3, 3, 3))
    grouped = jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", feature_group_count=2)
    count = count_flops(
        lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", feature_group_count=2), image, kernel
    )
    assert count == 2 * grouped.size * 3 * 9


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda w: w.session().step(0), "Call reset"),
        (lambda w: w.session().rollout([0]), "Call reset"),
        (lambda w: w.step(CODES), "out of range"),
        (lambda w: w.step(-1), "out of range"),
        (lambda w: w.step(0.5), "whole number"),
        (lambda w: w.rollout([0, 99]), "out of range"),
        (lambda w: w.reset(moving_squares(3)[0]), "shape"),
        (lambda w: w.reset(moving_squares(3)[:0]), "shape"),
        (lambda w: w.reset(moving_squares(3).astype(np.float32)), "uint8"),
        (lambda w: w.reset(moving_squares(3), [0]), r"\(1, 2\)"),
        (lambda w: w.reset(moving_squares(3), [0, CODES]), "out of range"),
        (lambda w: w.encode(moving_squares(3)[..., :1]), "RGB"),
        (lambda w: w.decode(np.zeros((2, DIM))), "w must be"),
        (lambda w: w.rollout_batch(moving_squares(3), None, [[0]]), "Prompts must be|shape"),
        (lambda w: w.rollout_batch(moving_squares(3)[None], None, [0, 1]), "Codes must be"),
        (lambda w: w.rollout_batch(moving_squares(3)[None], None, [[0]], steps=[2]), "no step 2"),
        (lambda w: w.infer_actions(np.zeros((2, 4, 4, 4), np.uint8)), "RGB"),
    ],
)
def test_mistakes_are_told_in_words(world: World, call, words: str) -> None:
    world.reset(moving_squares(2))
    with pytest.raises(ValueError, match=words):
        call(world)


def test_a_refused_code_costs_no_step(world: World) -> None:
    world.reset(moving_squares(2))
    expected = world.rollout([1, 2])
    world.reset(moving_squares(2))
    with pytest.raises(ValueError, match="out of range"):
        world.rollout([1, 2, CODES])
    np.testing.assert_array_equal(world.rollout([1, 2]), expected)
    assert world.rollout([]).shape == (0, SIZE, SIZE, 3)


def test_parts_that_do_not_fit_are_named() -> None:
    manifest, tensors, prompts = world_parts()
    with pytest.raises(ValueError, match="window is 9"):
        World(dataclasses.replace(manifest, window=9), tensors, prompts, device="cpu")
    with pytest.raises(ValueError, match="no field depth"):
        World(dataclasses.replace(manifest, dynamics=manifest.dynamics | {"depth": 1}), tensors, prompts)
    with pytest.raises(ValueError, match=r"dynamics do not fit .* params/extra belongs to nothing"):
        World(manifest, tensors | {"dynamics": tensors["dynamics"] | {"params/extra": np.zeros(1)}}, prompts)
    lacking = {name: array for name, array in tensors["decoder"].items() if name != "input.input"}
    with pytest.raises(ValueError, match=r"decoder do not fit .*input\.input"):
        World(manifest, tensors | {"decoder": lacking}, prompts)
    with pytest.raises(ValueError, match="sees no abacus"):
        World(manifest, tensors, prompts, device="abacus")
