"""Plans: a change reruns its dependents alone, the time is divided over what remains."""

from pathlib import Path

import pytest

from train import plan
from train.plan import Done, Step, Task, execute
from train.run import Run

NEEDS = {"frames": (), "teacher": ("frames",), "student": ("teacher",), "actions": ("frames",), "world": ("student",)}


def steps(changed: dict[str, int], budgets: dict[str, float | None], identity: str = "") -> list[Step]:
    def build(name: str, needs: tuple[str, ...]) -> Step:
        def work(task: Task) -> Done:
            budgets[name] = task.budget_seconds
            return Done(steps=7, identity=identity if name == "frames" else "")

        return Step(name, needs, {"value": changed.get(name, 0)}, work, share=0.0 if name == "frames" else 1.0)

    return [build(name, needs) for name, needs in NEEDS.items()]


@pytest.mark.parametrize(
    ("changed", "rerun"),
    [
        ({}, []),
        ({"student": 1}, ["student", "world"]),
        ({"actions": 1}, ["actions"]),
        ({"teacher": 1}, ["teacher", "student", "world"]),
        ({"frames": 1}, list(NEEDS)),
    ],
)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(
    changed: dict[str, int], rerun: list[str], tmp_path: Path
) -> None:
    assert execute(steps({}, {}), Run(tmp_path), minutes=None, log=print) == list(NEEDS)
    assert execute(steps(changed, {}), Run(tmp_path), minutes=None, log=print) == rerun
    assert execute(steps(changed, {}), Run(tmp_path), minutes=None, log=print) == []


def test_the_same_result_from_other_settings_reruns_nothing_else(tmp_path: Path) -> None:
    execute(steps({}, {}, "same frames"), Run(tmp_path), minutes=None, log=print)
    assert execute(steps({"frames": 1}, {}, "same frames"), Run(tmp_path), minutes=None, log=print) == ["frames"]
    assert execute(steps({"frames": 2}, {}, "others"), Run(tmp_path), minutes=None, log=print) == list(NEEDS)


def test_a_step_whose_product_was_deleted_is_done_again(tmp_path: Path) -> None:
    def work(task: Task) -> Done:
        task.folder.mkdir()
        return Done()

    def plan_of() -> list[Step]:
        return [Step("teacher", (), {}, work, product=tmp_path / "teacher")]

    assert execute(plan_of(), Run(tmp_path), minutes=None, log=print) == ["teacher"]
    assert execute(plan_of(), Run(tmp_path), minutes=None, log=print) == []
    (tmp_path / "teacher").rmdir()
    assert execute(plan_of(), Run(tmp_path), minutes=None, log=print) == ["teacher"]


def test_the_time_left_is_divided_anew_before_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [0.0]
    monkeypatch.setattr(plan.time, "monotonic", lambda: moment[0])
    budgets: dict[str, float | None] = {}
    cost = {"frames": 12.0, "teacher": 12.0, "student": 0.0, "actions": 50.0, "world": 1.0}
    built = []
    for step in steps({}, budgets):

        def work(task: Task, step: Step = step) -> Done:
            moment[0] += cost[step.name]
            return step.work(task)

        built.append(Step(step.name, step.needs, step.settings, work, step.share))
    execute(built, Run(tmp_path), minutes=1.0, log=print)
    assert budgets == {"frames": None, "teacher": 12.0, "student": 12.0, "actions": 18.0, "world": 1.0}


def test_more_time_continues_what_time_had_ended_and_redoes_what_depends_on_it(tmp_path: Path) -> None:
    budgets: dict[str, float | None] = {}

    def build(name: str, needs: tuple[str, ...]) -> Step:
        def work(task: Task) -> Done:
            folder, budgets[name] = task.folder, task.budget_seconds
            folder.mkdir(exist_ok=True)
            (folder / f"{len(list(folder.iterdir()))}").touch()  # a trace of each time that it went on
            short = name in ("teacher", "student") and budgets[name] is not None
            return Done(identity=f"{name} {budgets[name]}", out_of_time=short)

        return Step(name, needs, {}, work, share=1.0)

    def train(minutes: float | None) -> list[str]:
        return execute([build(name, needs) for name, needs in NEEDS.items()], Run(tmp_path), minutes=minutes, log=print)

    assert train(1.0) == list(NEEDS)
    first = budgets["teacher"]
    assert train(1.0) == train(0.5) == []
    assert train(2.0) == ["teacher", "student", "world"]
    assert budgets["teacher"] == pytest.approx(2 * first, rel=0.01)
    assert len(list((tmp_path / "teacher").iterdir())) == 2
    assert len(list((tmp_path / "student").iterdir())) == 1  # of another teacher: anew
    assert train(2.0) == []
    assert train(None) == ["teacher", "student", "world"]
    assert train(None) == train(3.0) == []


def test_building_counts_towards_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.time, "monotonic", lambda: 13.0)
    assert Task(tmp_path, 10.0, 10.0, print).budget_left() == 7.0
    assert Task(tmp_path, None, 10.0, print).budget_left() is None
    assert Task(tmp_path, 2.0, 10.0, print).budget_left() == plan.LEAST_SECONDS


def test_an_interrupted_step_is_continued_and_its_time_counted(tmp_path: Path) -> None:
    def interrupted(task: Task) -> Done:
        task.folder.mkdir()
        (task.folder / "half").touch()
        raise KeyboardInterrupt

    def continued(task: Task) -> Done:
        assert (task.folder / "half").exists()
        return Done(earlier_seconds=100.0, alarms=["careful"])

    with pytest.raises(KeyboardInterrupt):
        execute([Step("teacher", (), {}, interrupted)], Run(tmp_path), minutes=None, log=print)
    lines: list[str] = []
    run = Run(tmp_path)
    assert execute([Step("teacher", (), {}, continued)], run, minutes=None, log=lines.append) == ["teacher"]
    assert run.stages["teacher"].seconds >= 100.0
    assert lines[-1] == "teacher: WARNING: careful"
