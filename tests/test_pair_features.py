"""An action model that reads the encoder's feature maps: what reaches the codes, the store, the world, the plan."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from test_code_prediction import planned
from test_torch_stages import CPU, ENCODER, Squares
from worlds import world_parts

import train.latents
from app.cli import main
from genie_jax.clips import Clip
from genie_jax.latent_action import LatentActionConfig, LatentActionModel
from genie_jax.pair_features import FeatureConfig, FeatureEncoder
from genie_jax.trees import flatten_tree
from genie_jax.warp import WarpConfig
from torch_bridge.encoder import Encoder, to_store
from torch_bridge.world import World
from train.actions import ActionsConfig, ActionsStage, infer_corpus_codes
from train.errors import UserError
from train.latents import encode_corpus
from train.pipeline import NEEDS
from train.presets import preset
from train.torch_stage import Placement, seeded

WARP = WarpConfig(size=16, encoder_channels=(4, 4, 8), decoder_channels=(4, 4, 8))
MODEL = LatentActionConfig(codes=4, dim=6, warp=WARP, features=FeatureConfig(3, 5, 8))
RNG = np.random.default_rng(0)
CLIP = Clip(
    jnp.array(RNG.integers(0, 256, (2, 3, 16, 16, 3)), jnp.uint8),
    features_BTGGC=jnp.array(RNG.normal(size=(2, 3, 3, 3, 5)), jnp.float16),
)


def drawn(inputs: str) -> tuple[LatentActionModel, dict]:
    model, rng = LatentActionModel(dataclasses.replace(MODEL, inputs=inputs)), np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return model, jax.tree.map(lambda leaf: jnp.array(rng.normal(size=leaf.shape, scale=0.3), leaf.dtype), shapes)


@pytest.fixture(autouse=True)
def quick_compiler() -> Iterator[None]:
    """XLA without most of its optimisations: compiling is nearly all that these tests wait for."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_features_are_pooled_over_places_and_the_change_counts() -> None:
    network = nnx.jit(FeatureEncoder(FeatureConfig(4, 5, 8), 6, nnx.Rngs(0)))
    maps = jnp.array(RNG.normal(size=(1, 2, 4, 4, 5)), jnp.float32)

    inner = jnp.zeros((1, 2, 6, 6, 5)).at[:, :, 2:4, 2:4].set(maps[:, :, :2, :2])
    np.testing.assert_allclose(network(inner), network(jnp.roll(inner, (1, -1), (2, 3))), rtol=1e-5)
    assert not np.allclose(network(maps), network(maps[:, ::-1]))


def test_what_reaches_the_vectors_is_what_the_config_says() -> None:
    encoders = {}
    for inputs, of_frames, of_features in (("frames", 1, 0), ("features", 0, 1), ("both", 1, 1)):
        model, params = drawn(inputs)
        encode = encoders[inputs] = jax.jit(model.encode)
        base = encode(params, CLIP)
        other_frames = encode(params, CLIP._replace(frames_BTHWC=CLIP.frames_BTHWC[:, ::-1]))
        other_features = encode(params, CLIP._replace(features_BTGGC=CLIP.features_BTGGC[:, ::-1]))
        assert np.array_equal(base, other_frames) == (not of_frames), inputs
        assert np.array_equal(base, other_features) == (not of_features), inputs
    assert set(drawn("frames")[1]["encoder"]) == set(drawn("both")[1]["encoder"]["frames"])  # weights of before fit
    both, params = drawn("both")
    parts = [encoders[name](params | {"encoder": params["encoder"][name]}, CLIP) for name in ("frames", "features")]
    np.testing.assert_allclose(encoders["both"](params, CLIP), parts[0] + parts[1], rtol=1e-5, atol=1e-5)
    for wrong in (None, CLIP.features_BTGGC[..., :4]):
        with pytest.raises(ValueError, match="reads feature maps of shape"):
            both.encode(params, CLIP._replace(features_BTGGC=wrong))


def test_maps_are_the_first_half_of_the_encoder() -> None:
    encoder = seeded(1, "e", lambda: Encoder(ENCODER)).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        maps = encoder.maps(images)
        assert maps.shape == (2, ENCODER.channels, ENCODER.grid, ENCODER.grid)
        assert torch.equal(encoder.project(maps), encoder(images))


def test_maps_are_stored_beside_w_resume_and_go_when_nobody_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.latents, "BLOCK_BATCHES", 1)
    corpus, encoder, place = Squares(), seeded(1, "e", lambda: Encoder(ENCODER)), Placement(CPU)

    def stop_early(done: int, _total: int) -> None:
        if done >= 24:
            raise KeyboardInterrupt

    options = {"place": place, "batch": 8}
    with pytest.raises(KeyboardInterrupt):
        encode_corpus(encoder, corpus, 40, tmp_path, features=True, progress=stop_early, **options)
    calls: list[int] = []
    encode_corpus(encoder, corpus, 40, tmp_path, features=True, progress=lambda done, _: calls.append(done), **options)
    assert calls == [32, 40]
    with torch.no_grad():
        expected = to_store(encoder.eval().maps(place.images(corpus.frames))).numpy()
    stored = np.load(tmp_path / "features.npy", mmap_mode="r")
    np.testing.assert_allclose(stored, expected, atol=2e-3)
    assert stored.dtype == np.float16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.npy", "stats.json", "w.npy"]
    encode_corpus(encoder, corpus, 40, tmp_path, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stats.json", "w.npy"]


def test_a_world_reads_its_own_features_as_the_corpus_was_read(tmp_path: Path) -> None:
    manifest, tensors, prompts = world_parts(inputs="features")
    world = World(manifest, tensors, prompts, device="cpu")
    frames = RNG.integers(0, 256, (9, 32, 32, 3), np.uint8)
    store = SimpleNamespace(shots=np.array([[0, 9]]))
    corpus = SimpleNamespace(store=store, read=lambda indices: frames[indices], train_indices=np.arange(9))
    encode_corpus(world.codec.encoder, corpus, 9, tmp_path, place=Placement(CPU, "bfloat16"), batch=4, features=True)
    seen = world.codec.features(torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), seen, rtol=1e-3, atol=1e-3)  # of float16
    # Maps that differ: an untrained encoder's leave vectors 1e-3 apart, and then codes hang on roundings of distances.
    maps = RNG.normal(size=(9, 2, 2, ENCODER.channels)).astype(np.float16)
    model, params = world.actions.model, world.actions.params
    vectors_KD = np.asarray(jax.jit(model.encode)(params, Clip(frames[None], features_BTGGC=maps[None])))[0]
    book = world.actions.vq_state._replace(embed_KD=vectors_KD)  # a code for each of these very pairs
    tensors["actions"] |= flatten_tree({"vq": book})
    world = World(manifest, tensors, prompts, device="cpu")
    world.codec.features = lambda _: torch.from_numpy(maps)
    assert world.infer_actions(frames).tolist() == list(range(8))
    found = infer_corpus_codes(model, params, world.actions.vq_state, corpus, features_FGGC=maps)
    assert found.tolist() == [*range(8), -1]
    sizes = FeatureConfig(4, 3, 8)
    other = LatentActionModel(dataclasses.replace(model.config, features=sizes))
    shapes = jax.eval_shape(other.init, jax.random.key(0))
    zeros = flatten_tree({"params": jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), "vq": book})
    manifest = dataclasses.replace(manifest, actions=dataclasses.asdict(other.config))
    with pytest.raises(ValueError, match="features of the encoder"):
        World(manifest, tensors | {"actions": zeros}, prompts, device="cpu")


def test_a_stage_without_the_features_that_it_reads_is_refused() -> None:
    config = ActionsConfig(model=dataclasses.replace(MODEL, inputs="both"))
    for features in (None, np.zeros((9, 3, 3, 4), np.float16)):
        with pytest.raises(UserError, match=r"feature maps of shape \(3, 3, 5\)"):
            ActionsStage(config, SimpleNamespace(), features_FGGC=features, seed=0)


def test_the_plan_puts_latents_before_actions_that_read_features(tmp_path: Path) -> None:
    plain, steps = planned(tmp_path), planned(tmp_path, **{"actions.model.inputs": "both"})
    assert list(steps) == list(NEEDS)
    assert steps["actions"].needs == ("prepare", "latents")
    assert [name for name in steps if steps[name].settings != plain[name].settings] == ["latents", "actions"]
    assert not {"inputs", "features"} & set(plain["actions"].settings["model"])  # as before there were any
    config = preset("tiny")
    assert config.actions.model.features.grid == config.encoder.model.grid
    assert config.actions.model.features.channels == config.encoder.model.channels


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--actions.model.inputs", "both", "--actions.model.form", "mlp"], "the form mlp reads w and nothing else"),
        (["--actions.model.inputs", "features", "--encoder.codes", "0.1"], "give --actions.model.inputs frames, or"),
        (["--actions.model.inputs", "sound"], "--actions.model.inputs"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    words: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert main(["train", str(tmp_path / "clip.mp4"), "--run", str(tmp_path / "run"), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert fault in lines[0]
