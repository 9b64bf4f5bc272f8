"""Interleaved timing and the description of the machine, which every benchmark stands on."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_functions_take_turns_and_the_order_turns_round() -> None:
    from timing import interleaved

    called: list[str] = []
    functions = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    times = interleaved(functions, rounds=2, warmup=1, inner={"b": 2})
    assert "".join(called) == "ab" + "abb" + "bba"
    assert times["a"].rounds == times["b"].rounds == 2


def test_a_lead_comes_before_each_measurement() -> None:
    from timing import interleaved

    called: list[str] = []
    functions = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}
    interleaved(functions, rounds=2, warmup=0, lead=2)
    assert "".join(called) == "aaabbb" + "bbbaaa"


def test_statistics_of_known_seconds() -> None:
    from timing import Times

    times = Times.of([float(i) for i in range(101)])
    assert (times.low, times.median, times.high, times.p95, times.best, times.rounds) == (25, 50, 75, 95, 0, 101)
    assert json.loads(json.dumps(times.as_dict()))["median"] == 50


def test_machine_says_what_it_is_in_json() -> None:
    import machine

    said = json.loads(json.dumps(machine.describe()))
    assert said["cpu"]
    assert said["cores"] >= 1
    assert {"torch", "jax", "numpy"} <= set(said["versions"])


def test_rates_are_of_the_work_that_was_done() -> None:
    import machine
    import torch

    product, copy = machine.Matmul(64), machine.Copy(1)
    product()
    copy()
    assert torch.allclose(product.out, product.a @ product.b, atol=1e-4)
    assert (product.flop, copy.octets) == (2 * 64**3, 2**21)
