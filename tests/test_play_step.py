"""The benchmark of a step of play, end to end at the smallest sizes."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_quick_run_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import play_step

    out = tmp_path / "results" / "step.json"
    monkeypatch.setattr(sys, "argv", ["play_step.py", "--quick", "--runtimes", "eager,onnx,openvino", "-o", str(out)])
    play_step.main()
    result = json.loads(out.read_text())
    assert {
        "step eager float32",
        "step onnx float16",
        "frame onnx",
        "encode onnx",
        "latent step float16",
        "StyleGAN2 eager",
    } <= set(result["times"])
    assert all(times["median"] > 0 for times in result["times"].values())
    limit = result["limit_seconds"]
    read = {form: octets / result["rates"]["copy_bytes"] for form, octets in result["weight_bytes"].items()}
    assert set(read) == {"float32", "float16"}
    assert {form: limit[form] - limit["drawing"] for form in read} == pytest.approx(read)
    step = result["times"]["step eager float16"]["median"]
    assert result["share"]["eager float16"] == pytest.approx(limit["float16"] / step)
    assert set(result["latent_step"]["at"]) == {"10", "200"}
    assert result["latent_step"]["compiled"] == 1
    assert result["memory"]["steps"] == 200
    assert {"case", "value", "goal", "holds"} <= set(result["rows"][0])
    assert "of the limit" in capsys.readouterr().out
