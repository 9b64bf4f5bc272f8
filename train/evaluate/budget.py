"""What play costs: parameters that play loads and arithmetic of one generated frame, each part on its own line."""

from collections.abc import Mapping

from train.evaluate.results import Results
from train.evaluate.subject import EvaluatedWorld

PARAMETER_BUDGET = 36_700_000
GFLOP_BUDGET = 5.0


def report_budget(world: EvaluatedWorld, results: Results) -> None:
    """Write `budget.parameters.*` and `budget.gflop_per_frame.*`, each with its `total`."""
    parameters = {part: int(count) for part, count in world.parameters().items() if part != "total"}
    results.series_of_parts(
        "budget.parameters", {**parameters, "total": sum(parameters.values())}, budget=PARAMETER_BUDGET
    )
    counted = getattr(world, "gflop_per_frame", None)
    cost = counted() if callable(counted) else counted
    if cost is None:
        results.missing("budget.gflop_per_frame", "this world does not count its arithmetic")
        return
    parts = dict(cost) if isinstance(cost, Mapping) else {"total": float(cost)}
    parts.setdefault("total", sum(parts.values()))
    results.series_of_parts("budget.gflop_per_frame", parts, budget=GFLOP_BUDGET, unit="10^9 floating-point operations")
