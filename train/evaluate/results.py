"""The tree of numbers that becomes metrics.json: plain values on one side, where they come from on the other.

`metrics["rollout"]["psnr"]["8"]` is a number; `metrics["details"]["rollout"]["psnr"]` says n, seed, prompt length, mode
and the intervals. What was not computed is `null`, and `details` holds the `reason` at the same place.
"""

import math
from collections.abc import Mapping

from train.evaluate.bootstrap import Estimate

SCHEMA = 1
LEFT_OUT = "left out"  # how the reason of a measure begins that nobody asked for
Plain = float | int | str | None


class Results:
    """Collects numbers under dotted keys such as `rollout.psnr`."""

    def __init__(self, **head: object) -> None:
        self._tree: dict = {"schema": SCHEMA, **head}
        self._details: dict = {}

    def number(self, key: str, value: Estimate | Plain, **details: object) -> None:
        """One value; an `Estimate` brings its interval and n into the details."""
        if isinstance(value, Estimate):
            details = {"n": value.n, "interval": [_finite(value.low), _finite(value.high)], **details}
            value = value.value
        _put(self._tree, key, _finite(value))
        _put(self._details, key, details)

    def series(self, key: str, values: Mapping[int, Estimate | float | None], **details: object) -> None:
        """Values by step; the steps become strings. A step that was not reached is null, the reason in `details`."""
        plain: dict[str, Plain] = {}
        intervals: dict[str, list] = {}
        for step, value in values.items():
            if isinstance(value, Estimate):
                intervals[str(step)] = [_finite(value.low), _finite(value.high)]
                details.setdefault("n", value.n)
                value = value.value
            plain[str(step)] = _finite(value)
        _put(self._tree, key, plain)
        _put(self._details, key, {**details, **({"interval": intervals} if intervals else {})})

    def series_of_parts(self, key: str, values: Mapping[str, float | int], **details: object) -> None:
        """Values by the name of a part, the sum under `total`."""
        _put(self._tree, key, {part: _finite(value) for part, value in values.items()})
        _put(self._details, key, details)

    def missing(self, key: str, reason: str) -> None:
        """A key of the table that this evaluation does not compute, with why."""
        _put(self._tree, key, None)
        _put(self._details, key, {"reason": reason})

    def holds(self, key: str) -> bool:
        """Whether anything was said of `key`, be it that it is missing."""
        *parents, last = key.split(".")
        return last in (look_up(self._tree, ".".join(parents)) or {}) if parents else last in self._tree

    def get(self, key: str) -> object:
        """The plain value at `key`, None where it is absent or null."""
        return look_up(self.tree(), key)

    def tree(self) -> dict:
        """The whole, ready for JSON."""
        return {**self._tree, "details": self._details}


def look_up(tree: Mapping, key: str) -> object:
    """Value at a dotted key (`rollout.psnr.8`), None where nothing stands there."""
    node: object = tree
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return node


def left_out(tree: Mapping, key: str) -> str | None:
    """The reason where nobody asked for the measure `key` (`genie evaluate --only`), else None."""
    reason = look_up(tree, f"details.{key}.reason")
    return reason if isinstance(reason, str) and reason.startswith(LEFT_OUT) else None


def _put(tree: dict, key: str, value: object) -> None:
    *parents, last = key.split(".")
    for name in parents:
        tree = tree.setdefault(name, {})
    if last in tree and isinstance(tree[last], dict) and isinstance(value, dict):
        tree[last].update(value)
    elif last in tree:
        raise ValueError(f"{key} was measured twice")
    else:
        tree[last] = value


def _finite(value: Plain) -> Plain:
    """JSON knows no NaN and no infinity: a value that is neither finite nor a word is an error of the measure."""
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a measure gave {number}; it must give a finite number, or be reported as missing")
    return int(value) if isinstance(value, int) else round(number, 6)
