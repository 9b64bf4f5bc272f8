"""Checkpoints: what is saved is what is loaded, complete or absent, the newest by its step."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_fakes import TorchStage

from train.checkpoint import Meta, complete, latest, load, restore, save
from train.errors import UserError
from train.trees import first_not_finite, read_tree, write_tree

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.integers() | st.text() | st.none()
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(KEYS, inner, max_size=3)
)


def meta(step: int) -> Meta:
    return Meta(step, 1.5, 0, "torch")


@settings(max_examples=40, deadline=None)
@given(tree=TREES)
def test_any_plain_tree_survives(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder, {"tree": tree})
    assert read_tree(folder) == {"tree": tree}


def test_an_optimizer_and_odd_keys_survive(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    shared = torch.arange(6.0)
    state = {
        "optimizer": optimizer.state_dict(),
        "a/b.c": {1: shared[:3], "1": shared[3:], "again": shared, "view": shared.view(2, 3).T},
        "numbers": np.arange(3, dtype=np.int16),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
    }
    write_tree(tmp_path, state)
    back = read_tree(tmp_path)
    torch.testing.assert_close(back["a/b.c"], state["a/b.c"], rtol=0, atol=0)
    torch.testing.assert_close(back["half"], state["half"], rtol=0, atol=0)
    assert back["numbers"].dtype == np.int16
    assert back["empty"].shape == (0, 4)
    assert list(back["optimizer"]["state"]) == [0, 1]
    fresh = torch.optim.Adam(torch.nn.Linear(2, 3).parameters(), lr=0.2)
    fresh.load_state_dict(back["optimizer"])
    assert fresh.param_groups[0]["lr"] == 0.1
    assert fresh.param_groups[0]["foreach"] is None


def test_fused_adam_on_channels_last_weights_goes_on_as_if_never_saved(tmp_path: Path) -> None:
    def step(weight: torch.Tensor, optimizer: torch.optim.Adam, number: int) -> None:
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
        weight.grad = weight.grad.contiguous(memory_format=torch.channels_last)
        optimizer.step()

    def fresh() -> tuple[torch.Tensor, torch.optim.Adam]:
        start = torch.arange(36.0).view(1, 4, 3, 3).contiguous(memory_format=torch.channels_last)
        weight = torch.nn.Parameter(start.clone(memory_format=torch.preserve_format))
        return weight, torch.optim.Adam([weight], lr=0.1, fused=True)

    weight, optimizer = fresh()
    step(weight, optimizer, 0)
    write_tree(tmp_path, {"weight": weight, "optimizer": optimizer.state_dict()})
    step(weight, optimizer, 1)
    back = read_tree(tmp_path)
    again, other = fresh()
    again.data.copy_(back["weight"])
    other.load_state_dict(back["optimizer"])
    step(again, other, 1)
    assert torch.equal(weight, again)


def test_what_a_checkpoint_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"/a/0 is a set"):
        write_tree(tmp_path, {"a": [{1, 2}]})


def test_the_newest_is_the_one_with_the_highest_step(tmp_path: Path) -> None:
    for step in (3, 20, 100):
        save(tmp_path, {"x": torch.full((2,), float(step))}, meta(step))
    assert [path.name for path in complete(tmp_path)] == ["00000020", "00000100"]
    os.utime(tmp_path / "00000100", (0, 0))
    assert latest(tmp_path) == tmp_path / "00000100"
    state, read = load(latest(tmp_path), {})
    assert (read.step, float(state["x"][0])) == (100, 100.0)


def test_a_half_written_folder_does_not_count(tmp_path: Path) -> None:
    save(tmp_path, {"x": torch.ones(1)}, meta(5))
    (tmp_path / "00000009.tmp").mkdir()
    (tmp_path / "00000007").mkdir()  # no meta.json
    assert latest(tmp_path).name == "00000005"
    save(tmp_path, {"x": torch.ones(1)}, meta(9))
    assert latest(tmp_path).name == "00000009"


def test_a_corrupt_newest_falls_back_and_says_so(tmp_path: Path) -> None:
    stage = TorchStage()
    for step in (4, 8):
        stage.average = torch.full((3,), float(step))
        save(tmp_path, stage.state(), meta(step))
    broken = tmp_path / "00000008" / "state.safetensors"
    broken.write_bytes(broken.read_bytes()[:20])
    lines: list[str] = []
    assert restore(tmp_path, stage, lines.append).step == 4
    assert float(stage.average[0]) == 4.0
    assert "00000008 cannot be read" in lines[0]


def test_all_corrupt_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    save(tmp_path, TorchStage().state(), meta(4))
    (tmp_path / "00000004" / "meta.json").write_text(json.dumps({"step": 4})[:5])
    with pytest.raises(UserError, match="delete this folder"):
        restore(tmp_path, TorchStage(), print)


def test_a_state_of_another_shape_is_told_with_its_folder_and_what_to_do(tmp_path: Path) -> None:
    stage = TorchStage()
    save(tmp_path, {**stage.state(), "weight": torch.zeros(7)}, meta(4))
    with pytest.raises(UserError, match=f"00000004.* does not fit .*delete {tmp_path}"):
        restore(tmp_path, stage, print)
    save(tmp_path, {"average": torch.zeros(3)}, meta(5))
    with pytest.raises(UserError, match=r"00000005.* does not fit .*'weight'"):
        restore(tmp_path, stage, print)


def test_running_out_of_memory_is_no_fault_of_the_checkpoint(tmp_path: Path) -> None:
    class Full(TorchStage):
        def load_state(self, state: dict[str, Any]) -> None:
            del state
            raise torch.OutOfMemoryError

    save(tmp_path, TorchStage().state(), meta(4))
    with pytest.raises(torch.OutOfMemoryError):
        restore(tmp_path, Full(), print)


def test_the_first_array_that_is_not_finite_is_named() -> None:
    tree = {"a": [torch.ones(2), np.ones(2)], "b": {"c": torch.tensor([1.0, float("nan")])}, "lr": float("inf")}
    assert first_not_finite(tree) == "/b/c"
    assert first_not_finite(tree["a"]) is None
