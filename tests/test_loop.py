"""The loop: resumed equals uninterrupted, signals save, the guard goes back once, rows stand once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop_fakes
import numpy as np
import pytest
import torch
from loop_fakes import STAGES, JaxStage, TorchStage

from genie_jax.compile_time import CompileTime, compile_time
from train.checkpoint import complete
from train.clock import Clock
from train.errors import UserError
from train.guard import scalar
from train.loop import train_stage
from train.record import keep_rows


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_equal_bits(one: Any, other: Any) -> None:
    for stem, tensors in one.result().items():
        for name, value in tensors.items():
            np.testing.assert_array_equal(value, other.result()[stem][name], err_msg=f"{stem}/{name}")


def start(kind: str, folder: Path, hold: int) -> subprocess.Popen[str]:
    """A process that trains a fake stage, returned as it makes step `hold`."""
    command = [sys.executable, loop_fakes.__file__, kind, str(folder), str(hold)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = iter(process.stdout.readline, "")
    assert "holding\n" in lines
    return process


def test_intervals_within_one_another_count_once() -> None:
    counted = CompileTime()
    for start, end in ((1, 2), (3, 4), (0, 5), (6, 7), (6, 9)):
        counted.add(start, end - start)
    assert counted.seconds == 5 + 3


def test_a_stage_that_compiled_for_most_of_its_time_says_so(tmp_path: Path) -> None:
    class Compiling(TorchStage):
        def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
            import jax

            compiled = compile_time().seconds
            jax.jit(lambda x: x + step)(1.0)
            assert compile_time().seconds > compiled
            jax.monitoring.record_event_duration_secs("/jax/core/compile/of_a_test", share * 2.0)
            seconds[0] += 2.0
            return super().advance(step, progress, lr_scale)

    seconds = [0.0]
    for share, budget, alarmed in ((0.9, 5.0, True), (0.2, 5.0, False), (0.9, None, False)):
        seconds[0] = 0.0
        folder = tmp_path / f"{share}-{budget}"
        outcome = train_stage(
            Compiling(4), folder, budget_seconds=budget, log=None, record=False, now=lambda: seconds[0]
        )
        assert outcome.ended_by == ("time" if budget else "steps")
        told = [alarm for alarm in outcome.alarms if "compiling took" in alarm]
        assert len(told) == alarmed
        assert all("of the 6 seconds" in alarm and "--fake.pace.share" in alarm for alarm in told)


@pytest.mark.parametrize("kind", ["torch", "jax"])
def test_a_killed_run_ends_in_the_same_bits(kind: str, tmp_path: Path) -> None:
    process = start(kind, tmp_path / "killed", hold=12)
    process.kill()
    process.communicate()
    resumed, straight = STAGES[kind](), STAGES[kind]()
    outcome = train_stage(resumed, tmp_path / "killed", log=None)
    assert 6 <= outcome.resumed_at <= 12
    assert outcome.steps == 30
    train_stage(straight, tmp_path / "straight", log=None)
    assert_equal_bits(resumed, straight)
    steps = [row["step"] for row in rows(tmp_path / "killed")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 30


def test_sigterm_saves_and_ends_the_process(tmp_path: Path) -> None:
    process = start("torch", tmp_path, hold=12)
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=60)[0]
    assert "state saved" in text
    assert "KeyboardInterrupt" in text
    assert complete(tmp_path / "checkpoints")[-1].name == "00000013"
    assert [row["step"] for row in rows(tmp_path)][-1] == 13


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """What starts the tests in the background, such as nohup, may have them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_saves_the_step_it_came_in(tmp_path: Path) -> None:
    class Interrupted(TorchStage):
        def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
            if step == 12:
                signal.raise_signal(signal.SIGINT)  # to this thread, before it goes on
            return super().advance(step, progress, lr_scale)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_stage(Interrupted(), tmp_path / "a", log=None)
    assert signal.getsignal(signal.SIGINT) is handler
    assert complete(tmp_path / "a" / "checkpoints")[-1].name == "00000013"
    resumed, straight = TorchStage(), TorchStage()
    assert train_stage(resumed, tmp_path / "a", log=None).resumed_at == 13
    train_stage(straight, tmp_path / "b", log=None)
    assert_equal_bits(resumed, straight)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_during_the_last_save_stops_too(tmp_path: Path) -> None:
    class Interrupted(TorchStage):
        def state(self) -> dict[str, Any]:
            if self.seen and self.seen[-1][0] == self.pace.steps - 1:
                signal.raise_signal(signal.SIGINT)  # to this thread, before it goes on
            return super().state()

    with pytest.raises(KeyboardInterrupt):
        train_stage(Interrupted(5), tmp_path, log=None)
    assert complete(tmp_path / "checkpoints")[-1].name == "00000005"


def test_the_guard_goes_back_and_halves_the_rate(tmp_path: Path) -> None:
    stage, lines = TorchStage(bad_steps=(20,)), []
    outcome = train_stage(stage, tmp_path, log=lines.append)
    assert outcome.rewinds == 1
    assert any("back to step 0" in line and "x 0.5" in line for line in lines)
    scales = {scale for _, scale in stage.seen[:21]}
    assert scales == {1.0}
    assert stage.seen[22] == (0, 0.5)  # call 21 was under way when the loss of call 20 was read
    assert np.isfinite(stage.result()["line"]["weight"]).all()
    steps = [row["step"] for row in rows(tmp_path)]
    assert steps == list(range(1, 31))
    assert {row["lr_scale"] for row in rows(tmp_path)} == {0.5}


def test_the_halved_rate_survives_a_restart(tmp_path: Path) -> None:
    train_stage(TorchStage(20, bad_steps=(5,)), tmp_path, log=None)
    longer = TorchStage(30)
    train_stage(longer, tmp_path, log=None)
    assert longer.seen[0] == (20, 0.5)


def test_the_second_divergence_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage fake: the loss is not finite near step 21, and again"):
        train_stage(TorchStage(bad_steps=(20, 20)), tmp_path, log=None)


def test_a_state_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    class Poisoned(TorchStage):
        def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
            metrics = super().advance(step, progress, lr_scale)
            if step == 29 and lr_scale == 1.0:
                self.average[1] = float("inf")
            return metrics

    stage, lines = Poisoned(), []
    assert train_stage(stage, tmp_path, log=lines.append).rewinds == 1
    assert any("/average" in line for line in lines)
    assert np.isfinite(stage.result()["line"]["average"]).all()


def test_a_metric_may_be_a_tensor_that_numpy_cannot_read() -> None:
    assert scalar(torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)) == 1.5


def test_previews_events_and_alarms(tmp_path: Path) -> None:
    outcome = train_stage(TorchStage(2), tmp_path / "fake", log=None)
    assert outcome.alarms == ["the weight is small"]
    assert (tmp_path / "previews" / "fake_grid.png").is_file()
    assert list((tmp_path / "fake" / "tensorboard").iterdir())


def test_logging_switched_off(tmp_path: Path) -> None:
    stage, loud = TorchStage(bad_steps=(7,)), TorchStage(bad_steps=(7,))
    train_stage(stage, tmp_path / "quiet", log=None, record=False)
    train_stage(loud, tmp_path / "loud", log=None)
    assert_equal_bits(stage, loud)
    assert {path.name for path in (tmp_path / "quiet").iterdir()} == {"checkpoints"}


def test_a_time_budget_ends_the_stage_and_drives_progress(tmp_path: Path) -> None:
    moment = [0.0]

    shares: list[float] = []

    class Slow(TorchStage):
        def advance(self, step: int, progress: float, lr_scale: float) -> dict[str, Any]:
            moment[0] += 1.0
            shares.append(progress)
            return super().advance(step, progress, lr_scale)

    outcome = train_stage(Slow(1000), tmp_path, budget_seconds=10, log=None, now=lambda: moment[0])
    assert (outcome.steps, outcome.ended_by, outcome.seconds) == (10, "time", 10.0)
    assert shares == [i / 10 for i in range(10)]
    outcome = train_stage(Slow(1000), tmp_path, budget_seconds=16, log=None, now=lambda: moment[0])
    assert (outcome.steps, outcome.resumed_at) == (16, 10)
    assert shares[10:] == [i / 16 for i in range(10, 16)]
    outcome = train_stage(Slow(20), tmp_path, log=None, now=lambda: moment[0])
    assert (outcome.steps, outcome.resumed_at, outcome.ended_by) == (20, 16, "steps")


def test_even_without_time_one_call_is_made(tmp_path: Path) -> None:
    assert train_stage(TorchStage(), tmp_path, budget_seconds=0.0, log=None).steps == 1


def test_without_a_budget_progress_is_a_function_of_the_step() -> None:
    clock = Clock(200, None, spent=1e6)
    assert [clock.progress(step) for step in (0, 50, 200, 300)] == [0.0, 0.25, 1.0, 1.0]


def test_a_torn_last_row_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 5}\n{"st')
    keep_rows(path, 4)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_jax_metrics_of_several_steps_are_averaged(tmp_path: Path) -> None:
    stage = JaxStage(5)
    assert train_stage(stage, tmp_path, log=None).steps == 6
    assert [row["step"] for row in rows(tmp_path)] == [2, 4, 6]
