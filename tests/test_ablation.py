"""The ablation: its variants are options that exist, its copies leave the base alone, its table says what was found."""

import argparse
import json
from pathlib import Path
from types import ModuleType

import pytest

from app.commands import evaluate
from train.config import override_config
from train.presets import preset


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))


@pytest.fixture
def ablation() -> ModuleType:
    import ablation

    return ablation


def test_every_variant_is_made_of_options_that_exist_and_changes_something(ablation: ModuleType) -> None:
    base, parser = preset("tiny"), argparse.ArgumentParser()
    evaluate.configure(parser)
    for name, variant in ablation.GRID.items():
        assert (override_config(base, variant.train) != base) == bool(variant.train), name
        parser.parse_args(["world", "--video", "v.mp4", *ablation.play_words(variant)])


def test_the_seed_s_recipe_has_none_of_the_remedies(ablation: ModuleType) -> None:
    changed = override_config(preset("tiny"), ablation.GRID["seed"].train)
    dynamics = changed.dynamics
    assert (dynamics.model.context_noise, dynamics.loss.unroll, dynamics.loss.kind) == (0, 0, "mse")
    assert dynamics.clip == dynamics.model.window + 1
    assert changed.actions.model.form == "mlp"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    run = tmp_path / "base"
    for stage in ("encoder", "actions", "dynamics", "world"):
        (run / stage).mkdir(parents=True)
        (run / stage / "result").write_text(stage)
    (run / "previews").mkdir()
    stages = {name: {"state": "done", "seconds": 60.0, "stopped_at": 5} for name in ("encoder", "actions", "dynamics")}
    (run / "run.json").write_text(json.dumps({"stages": stages}))
    return run


def test_a_copy_has_all_but_what_is_trained_again_and_the_base_stays(
    ablation: ModuleType, base: Path, tmp_path: Path
) -> None:
    before = (base / "run.json").read_text()
    ablation.copy_run(base, tmp_path / "copy")
    record = json.loads((tmp_path / "copy" / "run.json").read_text())
    assert set(record["stages"]) == {"encoder", "actions"}
    assert all(stage["stopped_at"] is None for stage in record["stages"].values())
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["actions", "encoder", "run.json"]
    assert (base / "run.json").read_text() == before


def test_minutes_come_on_top_of_what_was_spent_and_stay(ablation: ModuleType, base: Path, tmp_path: Path) -> None:
    ablation.copy_run(base, tmp_path / "copy")
    assert ablation.minutes_for(tmp_path / "copy", 2.0) == pytest.approx(2 + 2)
    assert ablation.minutes_for(tmp_path / "copy", 9.0) == pytest.approx(2 + 2)  # as it began


def metrics(psnr: float) -> dict:
    names = ("psnr", "copy_last_psnr", "reconstruction_psnr")
    rollout = {name: {str(h): psnr + h for h in (1, 16, 64)} for name in names}
    return {"rollout": {**rollout, "horizon": 64}, "control": {"delta_psnr": {"4": 1.5}}}


def test_the_table_has_medians_and_ranges_over_seeds(tmp_path: Path) -> None:
    import ablation_table

    for seed, psnr in enumerate((10.0, 30.0, 12.0)):
        folder = tmp_path / "evaluations" / f"default-{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(metrics(psnr)))
        (folder / "trained.json").write_text(json.dumps({"steps": 100, "seconds": 60.0}))
    ablation_table.write_table(tmp_path, {"default": "as it is", "seed": "not measured"})
    row = (tmp_path / "table.md").read_text().splitlines()[2]
    assert row.startswith("| default | as it is | 3 | 100 | 13.00 (11.00 to 31.00) | 28.00 (26.00 to 46.00) |")
    assert "| 64 |" in row
    assert row.endswith("| not measured |")
    assert (tmp_path / "table.md").read_text().count("\n") == 3
    values = json.loads((tmp_path / "table.json").read_text())
    assert values["default"]["rollout.psnr.1"] == [11, 31, 13]
    assert (tmp_path / "curves.png").stat().st_size > 1000
