"""Every number of metrics.json in one table: its value, its meaning, and where it comes from."""

from collections.abc import Mapping

from train.evaluate.files import DESCRIBING
from train.evaluate.meanings import MEANINGS, Meaning
from train.evaluate.report.markup import Content, Markup, join, prose, table, tag
from train.evaluate.report.numbers import exact, interval_of, reason_of, short
from train.evaluate.results import look_up

_COLUMNS = ("mode", "n", "prompt", "seed")
_ELSEWHERE = frozenset({*_COLUMNS, "interval", "reason", "unit", "share_by_code", "confusion", "by_code"})


def details_table(tree: Mapping) -> Markup:
    """The table, in the order of metrics.json."""
    rows = [_row(tree, key) for key in measured_keys(tree)]
    head = ["key", "value", "95% interval", "how", "n", "prompt", "seed", "meaning"]
    return table("Every measure", head, rows, class_="details")


def measured_keys(tree: Mapping) -> list[str]:
    """Keys of the measures: those of the documents, and any other key that holds a number or null."""
    found: list[str] = []

    def walk(node: Mapping, path: tuple[str, ...]) -> None:
        for name, below in node.items():
            key = ".".join((*path, name))
            if not path and name in DESCRIBING:
                continue
            inner = isinstance(below, Mapping) and key not in MEANINGS and _holds_measures(tree, key, below)
            if inner:
                walk(below, (*path, name))
            else:
                found.append(key)

    walk(tree, ())
    return found


def _holds_measures(tree: Mapping, key: str, node: Mapping) -> bool:
    """Whether a key that no document names is a group of measures, and not one measure by step or part."""
    details = look_up(tree, f"details.{key}")
    return isinstance(details, Mapping) and all(isinstance(details.get(name), Mapping) for name in node)


def _row(tree: Mapping, key: str) -> list[Content]:
    meaning, value = MEANINGS.get(key, Meaning("")), look_up(tree, key)
    said = look_up(tree, f"details.{key}")
    said = said if isinstance(said, Mapping) else {}
    ends = interval_of(tree, key)
    return [
        tag("code", key),
        tag("td", _value(tree, key, value, meaning.unit), id=key),
        "" if ends is None else f"{short(ends[0])} to {short(ends[1])}",
        _how(said),
        *(said.get(name, "") for name in _COLUMNS[1:]),
        join(prose(meaning.text), tag("br"), prose(meaning.read)) if meaning.read else prose(meaning.text),
    ]


def _value(tree: Mapping, key: str, value: object, unit: str) -> Content:
    if isinstance(value, Mapping):
        return _by_step(tree, key, value, unit)
    if value is None:
        return _missing(tree, key)
    return exact(value, unit)


def _by_step(tree: Mapping, key: str, values: Mapping, unit: str) -> Markup:
    """Steps or parts, folded away behind a line that says how many there are and where they begin and end."""
    known = [value for value in values.values() if value is not None]
    stepwise = all(name.isdecimal() for name in values)
    rows = []
    for name, value in values.items():
        ends = interval_of(tree, key, name)
        interval = "" if ends is None else f"{short(ends[0])} to {short(ends[1])}"
        rows.append([name, "null" if value is None else exact(value), interval])
    counted = f"{len(values)} {'steps' if stepwise else 'parts'}"
    span = f": {short(known[0])} to {short(known[-1], unit)}" if known and stepwise else ""
    span = f": {short(values['total'], unit)}" if values.get("total") is not None else span
    inner = table(key, ["step" if stepwise else "part", "value", "95% interval"], rows)
    folded = tag("details", tag("summary", counted + span), inner)
    return join(folded, _missing(tree, key) if len(known) < len(values) else None)


def _missing(tree: Mapping, key: str) -> Markup:
    return tag("span", "null: ", prose(reason_of(tree, key) or "no reason was recorded"), class_="missing")


def _how(said: Mapping) -> str:
    """Mode first, then everything else that is recorded of the measure."""
    mode = [str(said["mode"])] if "mode" in said else []
    rest = [f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in said.items() if name not in _ELSEWHERE]
    return "; ".join(mode + rest)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value) if isinstance(value, int | float) else str(value)
