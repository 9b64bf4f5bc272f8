"""The record of a run: fingerprints decide what is rerun, the lock who may train, the schema who may read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from train.errors import UserError
from train.run import Run, fingerprint, read_result, write_result


def test_a_fingerprint_depends_on_settings_and_inputs_alone() -> None:
    first = fingerprint("teacher", {"a": 1, "b": [2]}, {"prepare": "x"})
    assert first == fingerprint("teacher", {"b": [2], "a": 1}, {"prepare": "x"})
    others = [
        fingerprint("teacher", {"a": 2, "b": [2]}, {"prepare": "x"}),
        fingerprint("teacher", {"a": 1, "b": [2]}, {"prepare": "y"}),
        fingerprint("student", {"a": 1, "b": [2]}, {"prepare": "x"}),
    ]
    assert len({first, *others}) == 4


def test_what_is_done_stays_done_in_the_next_process(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.config = {"seed": 3}
    run.begin("teacher", "f1", "cpu")
    run.folder("teacher").mkdir()
    (run.folder("teacher") / "kept").touch()
    assert not run.done("teacher", "f1")
    again = Run(run.path)
    again.begin("teacher", "f1", "cpu")
    assert (run.folder("teacher") / "kept").exists()
    again.finish("teacher", 2.5, steps=10, alarms=["careful"])
    last = Run(run.path)
    assert last.done("teacher", "f1")
    assert not last.done("teacher", "f2")
    assert (last.stages["teacher"].seconds, last.stages["teacher"].alarms) == (2.5, ["careful"])
    found = json.loads((run.path / "run.json").read_text())
    assert found["seed"] == 3
    assert {"python", "jax", "flax", "torch", "efficient-genie"} <= set(found["versions"])


def test_another_fingerprint_empties_the_folder(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("teacher", "student"):
        run.begin(name, "f1")
        run.folder(name).mkdir()
        (run.folder(name) / "old").touch()
        run.finish(name, 1.0)
    run.begin("teacher", "f2")
    assert not (run.folder("teacher") / "old").exists()
    assert (run.folder("student") / "old").exists()
    assert run.stages["teacher"].seconds == 0.0


def test_killed_between_marking_and_emptying_nothing_old_is_vouched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    run.begin("teacher", "f1")
    run.folder("teacher").mkdir()
    run.finish("teacher", 1.0)

    def killed(path: Path) -> None:  # noqa: ARG001 - in place of rmtree
        raise KeyboardInterrupt

    monkeypatch.setattr("train.run.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        run.begin("teacher", "f2")
    monkeypatch.undo()
    assert not Run(tmp_path).done("teacher", "f1")
    (tmp_path / "teacher" / "old").touch()
    Run(tmp_path).begin("teacher", "f1")
    assert not (tmp_path / "teacher" / "old").exists()


@pytest.mark.parametrize(
    ("text", "fault"), [('{"schema": 99}', "newer version"), ("{", "not the record"), ("[]", "not the record")]
)
def test_an_unknown_record_is_refused(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=fault):
        Run(tmp_path)


def hold_lock(path: Path) -> subprocess.Popen[str]:
    code = "import sys, time; from pathlib import Path; from train.run import Run\n"
    code += "with Run(Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(60)"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_two_processes_cannot_train_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    process = hold_lock(tmp_path)
    with pytest.raises(UserError, match=f"process {process.pid}"), Run(tmp_path).lock():
        pytest.fail("the lock was given twice")
    process.kill()
    process.communicate()
    with Run(tmp_path).lock():
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_results_round_trip_and_damage_is_named(tmp_path: Path) -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array(3)}
    write_result(tmp_path, {"line": tensors})
    back = read_result(tmp_path, "line")
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value, strict=True)
    (tmp_path / "line.safetensors").write_bytes(b"1234")
    with pytest.raises(UserError, match="cannot be read"):
        read_result(tmp_path, "line")
    with pytest.raises(UserError, match="cannot be read"):
        read_result(tmp_path, "other")
