"""`genie crosscheck` finds equal what is equal, and finds every fault in its own row."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from worlds import make_world

import genie_jax.attention
import genie_jax.nn
import genie_jax.vq
from app.cli import main
from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.training import OptimizerConfig
from genie_jax.trees import flatten_tree
from genie_jax.vq import VectorQuantizer, VQConfig
from torch_bridge.crosscheck import suite
from torch_bridge.crosscheck.dynamics import (
    Prompt,
    check_layers,
    check_optimizer_step,
    check_rollout,
    draw_inputs,
    torch_change,
)
from torch_bridge.crosscheck.quantizer import check_quantizer
from torch_bridge.crosscheck.report import Report, Row, compare
from torch_bridge.crosscheck.suite import random_params
from torch_bridge.reference.dynamics_names import places, wrapper_state
from torch_bridge.reference.x_transformers import DynamicsTwin, make_wrapper
from torch_bridge.world import World

SMALL = DynamicsConfig(width=24, layers=3, heads=2, head_dim=12, ff_mult=2, window=4, style_dim=10, codes=4)

configs = st.builds(
    DynamicsConfig,
    width=st.sampled_from([8, 24, 40]),
    layers=st.integers(1, 3),
    heads=st.sampled_from([2, 4]),
    kv_heads=st.sampled_from([None, 1, 2]),
    head_dim=st.sampled_from([8, 12]),
    ff_mult=st.sampled_from([2, 8 / 3, 4]),
    ff_glu=st.booleans(),
    ff_activation=st.sampled_from(["gelu", "silu"]),
    rotary_dims=st.sampled_from([None, 0, 4, 8]),
    qk_rmsnorm=st.booleans(),
    window=st.integers(1, 5),
    codes=st.integers(2, 9),
    rows=st.integers(1, 2),
    style_dim=st.sampled_from([3, 16]),
    action=st.sampled_from(["add", "token"]),
    context_noise=st.sampled_from([0.0, 0.7]),
    noise_buckets=st.sampled_from([1, 10]),
    residual=st.booleans(),
)


def make(config: DynamicsConfig, seed: int = 0):
    model = DynamicsModel(config)
    return model, random_params(jax.eval_shape(model.init, jax.random.key(0)), seed)


@settings(max_examples=14, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(config=configs, seed=st.integers(0, 99))
def test_forward_and_gradients_of_any_configuration(config: DynamicsConfig, seed: int) -> None:
    model, params = make(config, seed)
    twin, (w, codes, level) = DynamicsTwin(config, params), draw_inputs(config, seed)
    w, codes = w[:, :9], codes[:, :9]
    level = None if level is None else level[:, :9]
    target = np.random.default_rng(seed + 1).standard_normal(w.shape, np.float32)

    theirs = twin(*(None if x is None else torch.from_numpy(x) for x in (w, codes, level)))
    (theirs - torch.from_numpy(target)).square().mean().backward()

    def objective(params):
        out = model.apply(params, w, codes, noise_level_BT=level)
        return jnp.mean((out - target) ** 2), out

    (_, ours), gradients = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
    assert compare("forward", ours, theirs, tolerance=1e-5).passed
    expected = flatten_tree(twin.gradients())
    for name, gradient in flatten_tree(gradients).items():
        row = compare(name, gradient, expected[name], tolerance=1e-4)
        assert row.passed, row
    back = flatten_tree(twin.params())
    for name, array in flatten_tree(params).items():
        np.testing.assert_array_equal(back[name], array)


def test_weights_of_the_package_come_back_bit_for_bit() -> None:
    """PyTorch -> Flax -> PyTorch, and every parameter of the package is in the table."""
    config = dataclasses.replace(SMALL, qk_rmsnorm=True, kv_heads=1)
    torch.manual_seed(1)
    first = DynamicsTwin(config)
    for parameter in first.parameters():
        torch.nn.init.normal_(parameter)
    second = DynamicsTwin(config, first.params())
    state = second.state_dict()
    assert {place.theirs for place in places(config)} == {name for name, _ in first.named_parameters()}
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.state_dict().items())
    named = wrapper_state(config, flatten_tree(first.params()))
    own = {name: torch.from_numpy(np.array(array)) for name, array in named.items()}
    wrapper = make_wrapper(config)
    frequencies = wrapper.attn_layers.rotary_pos_emb.inv_freq.clone()
    wrapper.load_state_dict(own)  # strict: the package's names, nothing more
    assert all(torch.equal(tensor, own[name]) for name, tensor in first.transformer.state_dict().items())
    assert torch.equal(own["attn_layers.rotary_pos_emb.inv_freq"], frequencies)


def layers(twin: DynamicsTwin | None = None, config: DynamicsConfig = SMALL) -> list[str]:
    """Names of the layers that differ."""
    model, params = make(config)
    twin = twin or DynamicsTwin(config, params)
    return [row.module for row in check_layers(model, params, twin, draw_inputs(config, 0)) if not row.passed]


WHOLE = "prediction, all layers"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("transformer.project_in.weight", "embedding"),
        ("code", "embedding"),
        ("level", "embedding"),
        ("transformer.attn_layers.layers.2.1.to_v.weight", "block 1 attention"),
        ("transformer.attn_layers.layers.4.0.0.g", "block 2 attention"),
        ("transformer.attn_layers.layers.1.1.ff.2.bias", "block 0 feed-forward"),
        ("transformer.attn_layers.final_norm.g", "head"),
        ("transformer.project_out.weight", "head"),
    ],
)
def test_one_changed_weight_shows_in_its_row(name: str, row: str) -> None:
    twin = DynamicsTwin(SMALL, make(SMALL)[1])
    with torch.no_grad():
        dict(twin.named_parameters())[name].view(-1)[0] += 0.01
    assert layers(twin) == [row, WHOLE]


def test_another_rotary_layout_shows_in_the_attention_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_split(x, place_N, dims, *, places):
        """The other usual layout: channel i is paired with channel i + dims / 2."""
        order = np.argsort(np.concatenate([np.arange(0, dims, 2), np.arange(1, dims, 2)]))
        back = np.argsort(order)
        pairs = jnp.concatenate([x[..., :dims][..., order], x[..., dims:]], -1)
        turned = genie_jax.nn.rotate(pairs, place_N, dims, places=places)
        return jnp.concatenate([turned[..., :dims][..., back], turned[..., dims:]], -1)

    monkeypatch.setattr(genie_jax.attention, "rotate", half_split)
    assert layers() == [*(f"block {i} attention" for i in range(3)), WHOLE]


def test_a_norm_without_its_offset_shows_where_norms_are(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = genie_jax.nn.RMSNorm.__call__

    def without_offset(self, x):
        gain = self.gain[...]
        return whole(self, x) * gain / (gain + 1)

    monkeypatch.setattr(genie_jax.nn.RMSNorm, "__call__", without_offset)
    blocks = [f"block {i} {half}" for i in range(3) for half in ("attention", "feed-forward")]
    assert layers() == [*blocks, "head", WHOLE]


def test_the_usual_order_of_grouped_heads_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(SMALL, heads=4, kv_heads=2)
    assert layers(config=config) == []
    attend = genie_jax.attention.Attention.attend

    def usual_order(self, query, key, value, **places):
        """Query head j reads KV head j // group."""
        return attend(
            self, query.reshape(*query.shape[:2], 2, 2, -1).swapaxes(2, 3).reshape(query.shape), key, value, **places
        )

    monkeypatch.setattr(genie_jax.attention.Attention, "attend", usual_order)
    assert layers(config=config) == [*(f"block {i} attention" for i in range(3)), WHOLE]


def rollout_row() -> Row:
    model, params = make(SMALL)
    w, codes, _ = draw_inputs(SMALL, 0)
    later = np.random.default_rng(0).integers(SMALL.codes, size=(len(w), 12))
    return check_rollout(model, params, DynamicsTwin(SMALL, params), Prompt(w, codes[:, 1:]), later)


def test_a_ring_that_sees_a_slot_too_many_shows_in_the_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rollout_row().passed
    longer = lambda place, tokens, window, filled: place // tokens >= window - filled - 1  # noqa: E731
    monkeypatch.setattr("genie_jax.transformer.held", longer)
    assert not rollout_row().passed


def optimizer_row() -> Row:
    _, params = make(SMALL)
    twin = DynamicsTwin(SMALL, params)
    for parameter in twin.parameters():  # of norm 1.6, so that the first step is clipped and the second is not
        parameter.grad = 0.02 * torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
    return check_optimizer_step(params, twin, OptimizerConfig())


OTHERS = (
    *({"weight_decay": 0.0}, {"weight_decay": 0.011}, {"eps": 2e-6}, {"learning_rate": 3.01e-4}),
    *({"clip_norm": 0.9}, {"b1": 0.89}, {"b2": 0.98}),
)


@pytest.mark.parametrize("change", OTHERS, ids=str)
def test_another_optimiser_shows(monkeypatch: pytest.MonkeyPatch, change: dict) -> None:
    assert optimizer_row().passed
    theirs = torch_change
    monkeypatch.setattr(
        "torch_bridge.crosscheck.dynamics.torch_change",
        lambda params, twin, config: theirs(params, twin, dataclasses.replace(config, **change)),
    )
    assert not optimizer_row().passed


def quantizer_faults(**changes) -> list[str]:
    config = VQConfig(codes=5, dim=7, kmeans_start=False, **changes)
    state = VectorQuantizer(config).init(jax.random.key(3))
    return [row.module for row in check_quantizer(config, state) if not row.passed]


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("gradient", ["ste", "rotation"])
def test_quantiser_rows(cosine: bool, gradient: str) -> None:
    assert quantizer_faults(cosine=cosine, gradient=gradient) == []


def test_quantiser_faults_show_in_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(genie_jax.vq, "straight_through", lambda x, code: code + 0.5 * (x - jax.lax.stop_gradient(x)))
        assert quantizer_faults() == ["quantiser, gradient (ste)"]
    with monkeypatch.context() as patch:
        follow = VectorQuantizer._follow
        patch.setattr(VectorQuantizer, "_follow", lambda self, s, x, i: follow(self, follow(self, s, x, i), x, i))
        found = quantizer_faults()
        assert found[0] == "quantiser, EMA update 1"
        assert not {"quantiser, indices", "quantiser, codes", "quantiser, training step 1"} & set(found)


def test_differences_are_measured_against_the_reference() -> None:
    row = compare("x", np.array([1.0, 2.0]), np.array([1.0, 4.0]), tolerance=0.4)
    assert (row.absolute, row.relative, row.passed) == (2.0, 0.5, False)
    assert compare("x", np.zeros(3), np.zeros(3), tolerance=0).passed
    assert not compare("x", np.full(3, np.nan), np.zeros(3), tolerance=1).passed
    assert not compare("x", np.zeros(3), np.full(3, np.nan), tolerance=1).passed
    assert not compare("x", np.full(3, 1e-30), np.zeros(3), tolerance=1).passed
    small_and_large = {"a": np.ones(2), "b": 1e-6 * np.ones(2)}, {"a": np.ones(2), "b": 2e-6 * np.ones(2)}
    assert compare("x", *small_and_large, tolerance=0.4).relative == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"x a: shape \(2,\) here and \(3,\)"):
        compare("x", {"a": np.zeros(2)}, {"a": np.zeros(3)}, tolerance=1)
    with pytest.raises(ValueError, match="names"):
        compare("x", {"a": np.zeros(2)}, {"b": np.zeros(2)}, tolerance=1)


def test_json_has_no_infinity_and_comes_back() -> None:
    report = Report("x", (Row("head", 1, 1.0, float("inf"), 0.0), Row("embedding", 2, 0.0, 0.0, 1e-5)), {"jax": "1"})
    text = json.dumps(report.to_json(), allow_nan=False)
    assert Report.from_json(json.loads(text)) == report


def test_table_is_markdown_of_one_width() -> None:
    rows = (Row("block 0 attention", 1234567, 1e-7, 2e-7, 1e-5), Row("head", 1, 1.0, float("inf"), 0.0))
    lines = Report("x", rows, {}).table().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "1,234,567" in lines[2]
    assert "equal" in lines[2]
    assert "DIFFERS" in lines[3]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crosscheck") / "world"
    make_world(path)
    return path


def test_a_world_from_the_command_line(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crosscheck", str(world), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert found["subject"] == "a trained world"
    assert found["versions"]["x-transformers"][0].isdigit()
    names = [row["module"] for row in found["rows"]]
    layers = [f"block {i} {half}" for i in range(2) for half in ("attention", "feed-forward")]
    assert names[:7] == ["weights, there and back", "embedding", *layers, "head"]
    gradients = {name.removeprefix("gradient of ") for name in names if name.startswith("gradient of ")}
    assert gradients == set(flatten_tree(World.load(world, "cpu").player.params))
    assert {"prediction, all layers", "loss through 4 own steps", "AdamW step", "action gradients"} < set(names)
    assert {"cached rollout, 64 frames", "quantiser, indices", "quantiser, EMA update 3"} < set(names)
    assert all(row["passed"] and row["relative"] <= row["tolerance"] for row in found["rows"])


def test_random_weights_and_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(suite, "DYNAMICS", {})
    monkeypatch.setattr(suite, "ACTIONS", {})
    assert main(["crosscheck"]) == 0
    assert "36 of 36 equal" in capsys.readouterr().out
    monkeypatch.setattr(genie_jax.vq, "straight_through", lambda x, code: code + 0 * x)
    assert main(["crosscheck", "--seed", "1"]) == 1
    out = capsys.readouterr().out
    assert "the first is Euclidean: quantiser, gradient (ste)" in out
    assert out.count("DIFFERS") == 4


def test_a_negative_seed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crosscheck", "--seed", "-1"]) == 2
    assert capsys.readouterr().err == "genie: --seed -1: is below 0. give a whole number from 0 on\n"


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crosscheck", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "none" in error
