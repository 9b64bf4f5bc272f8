"""Numbers as the report prints them: short for the eye, exact for programs."""

from collections.abc import Mapping

from train.evaluate.report.markup import Markup, tag
from train.evaluate.results import look_up


def short(value: float, unit: str = "") -> str:
    """About four figures: 24.69 dB, 0.003894, 1,414,934."""
    number = float(value)
    if number.is_integer() or abs(number) >= 10_000:
        text = f"{number:,.0f}"
    elif abs(number) >= 1000:
        text = f"{number:.0f}"
    else:
        text = f"{number:#.4g}" if abs(number) >= 0.0001 else f"{number:.1e}"
    return f"{text} {unit}".rstrip()


def exact(value: float, unit: str = "") -> Markup:
    """The short form, which carries the exact value for programs that read the page."""
    return tag("data", short(value, unit), value=repr(value))


def interval_of(tree: Mapping, key: str, step: str | None = None) -> tuple[float, float] | None:
    """Ends of the 95% interval that metrics.json gives for a key, or for a step of it; None where it gives none."""
    ends = look_up(tree, f"details.{key}.interval" + ("" if step is None else f".{step}"))
    if not isinstance(ends, list) or len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
        return None
    return float(ends[0]), float(ends[1])


def by_step(tree: Mapping, key: str) -> dict[int, float]:
    """The values by step that were measured, in the order of the steps."""
    values = look_up(tree, key)
    if not isinstance(values, Mapping):
        return {}
    return {int(h): values[h] for h in sorted((h for h in values if h.isdecimal()), key=int) if values[h] is not None}


def reason_of(tree: Mapping, key: str) -> str | None:
    """Why a value at this key, or a step of it, was not measured."""
    reason = look_up(tree, f"details.{key}.reason")
    return reason if isinstance(reason, str) else None
