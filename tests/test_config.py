"""Configs: every field by its path, typed, with the nearest name for a typo; JSON and back; the budget of `laptop`."""

import dataclasses
import json
import math
from typing import Any

import jax
import pytest

from genie_jax.dynamics import DynamicsModel
from genie_jax.latent_action import LatentActionModel
from torch_bridge.encoder import Encoder
from torch_bridge.frame_codec import count_parameters
from torch_bridge.mobile_stylegan import Student
from train.config import Config, override_config, stored_config
from train.errors import UserError
from train.overrides import fields, to_json
from train.presets import PRESETS, configured, preset
from train.run import Run

PLAY_BUDGET = 36_700_000


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name: str) -> None:
    config = preset(name)
    text = json.dumps(to_json(config), allow_nan=False)
    back = stored_config(json.loads(text), "run.json")
    assert back == config
    assert json.dumps(to_json(back), allow_nan=False) == text  # 1 and 1.0 are equal, and have not one hash


def test_infinity_and_none_survive_strict_json() -> None:
    config = override_config(preset("debug"), {"dynamics.optimizer.clip_norm": "inf", "world.clamp": "none"})
    assert math.isinf(config.dynamics.optimizer.clip_norm)
    assert config.world.clamp is None
    assert stored_config(json.loads(json.dumps(to_json(config), allow_nan=False)), "run.json") == config


@pytest.mark.parametrize(
    ("key", "text", "path", "value"),
    [
        ("dynamics.model.layers", "6", "dynamics.model.layers", 6),
        ("fps", "7.5", "ingest.fps", 7.5),
        ("crop", "1,2,30,40", "ingest.crop", "1,2,30,40"),
        ("seed", "5", "seed", 5),
        ("w-plus", "true", "w_plus", True),
        ("recipe", "frozen", "encoder.tune_student", False),
        ("encoder.model.taps", "0,2", "encoder.model.taps", (0, 2)),
        ("teacher.augment.groups", "translate,hue", "teacher.augment.groups", ("translate", "hue")),
        ("dynamics.model.kv_heads", "none", "dynamics.model.kv_heads", None),
        ("dynamics.model.kv_heads", "1", "dynamics.model.kv_heads", 1),
        ("actions.model.form", "mlp", "actions.model.form", "mlp"),
        ("teacher.pace.steps", "9", "teacher.pace.steps", 9),
    ],
)
def test_a_field_is_set_by_its_path_and_by_its_type(key: str, text: str, path: str, value: Any) -> None:
    config = override_config(preset("debug"), {key: text})
    assert fields(config)[path] == value
    assert type(fields(config)[path]) is type(value)


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("dynamics.model.layer", "dynamics.model.layers"),
        ("dynamic.model.layers", "dynamics.model.layers"),
        ("fsp", "fps"),
        ("minuets", "minutes"),
        ("dynamics.std_floor_", "dynamics.std_floor"),
    ],
)
def test_a_typo_is_answered_by_the_nearest_name(key: str, suggestion: str) -> None:
    with pytest.raises(UserError, match=f"--{key}: is no option. did you mean --{suggestion}"):
        override_config(preset("debug"), {key: "1"}, ["--minutes", "--run"])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("dynamics.model.layers", "many"),
        ("actions.model.form", "wrap"),
        ("holdout", "0.9"),
        ("size", "48"),
        ("student.model.channels", "16,16"),
        ("dynamics.model.kv_heads", "3"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_option(key: str, text: str) -> None:
    with pytest.raises(UserError, match=f"^--{key} {text}: does not fit"):
        override_config(preset("debug"), {key: text})


@pytest.mark.parametrize("changes", [{"size": "64"}, {"student.model.channels": "8,8,8,8", "size": "64"}])
def test_the_size_is_one_for_all_stages(changes: dict[str, str]) -> None:
    config = override_config(preset("debug"), changes)
    found = fields(config)
    sizes = ("ingest.size", "teacher.generator.size", "teacher.discriminator.size", "student.model.size")
    assert {found[path] for path in (*sizes, "encoder.model.size")} == {64}
    assert len(config.student.model.channels) == 4


def test_shared_values_reach_every_stage_from_either_name() -> None:
    config = override_config(
        preset("debug"), {"w_plus": "1", "dynamics.model.codes": "5", "encoder.model.style_dim": "24"}
    )
    rows = config.student.model.rows
    assert (config.rows, config.encoder.model.rows, config.dynamics.model.rows) == (rows, rows, rows)
    assert (config.codes, config.actions.model.codes, config.dynamics.model.codes) == (5, 5, 5)
    widths = {value for path, value in fields(config).items() if path.endswith("style_dim")}
    assert widths == {24}


@pytest.mark.parametrize(
    "change", [{"dynamics": {"model": {"depth": 3}}}, {"speed": 1}, {"teacher": {"batch": "many"}}, {"holdout": 0.9}]
)
def test_a_stored_config_of_another_version_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^RUN/run.json: holds"):
        stored_config(to_json(preset("debug")) | change, "RUN/run.json")


def test_a_run_goes_on_with_its_own_config(tmp_path: Any) -> None:
    run = Run(tmp_path)
    assert configured(run, None) == preset("tiny")
    run.config = to_json(override_config(preset("debug"), {"seed": "4"}))
    assert configured(run, None).seed == 4
    assert configured(run, "debug").seed == 0
    with pytest.raises(UserError, match="choose one of debug, tiny, laptop, gpu"):
        configured(run, "huge")


def play_parameters(config: Config) -> int:
    """Numbers that play loads: encoder, folded student, the action model's encoder and codebook, dynamics."""
    key = jax.random.key(0)
    actions = LatentActionModel(config.actions.model)
    trees = [
        jax.eval_shape(DynamicsModel(config.dynamics.model).init, key),
        jax.eval_shape(actions.init, key)["encoder"],
        jax.eval_shape(actions.init_quantizer, key).embed_KD,
    ]
    jax_side = sum(leaf.size for tree in trees for leaf in jax.tree.leaves(tree))
    torch_side = [Encoder(config.encoder.model), Student(config.student.model).for_play()]
    return jax_side + sum(count_parameters(module) for module in torch_side)


def test_the_laptop_preset_keeps_the_budget() -> None:
    config = preset("laptop")
    assert (config.size, config.encoder.model.trunk, config.student.model.channels[0]) == (256, "b1", 512)
    assert PLAY_BUDGET * 0.9 < play_parameters(config) <= PLAY_BUDGET


def test_presets_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("debug").seed = 1


@pytest.mark.parametrize("key", ["actions.model.features.grid", "actions.model.features.channels"])
def test_what_follows_from_other_options_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=r"follows from other options.*--encoder\.model"):
        override_config(preset("tiny"), {key: "7"})
