"""What a cross-check found: one row for each module or step that was run in both frameworks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch

Value = Any  # jax.Array, torch.Tensor or numpy array


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        module: what was run, as "block 3 attention".
        numbers: how many were compared.
        absolute: largest difference.
        relative: largest difference over the largest absolute value of the reference array; infinite where that is 0.
        tolerance: largest relative difference that passes.
    """

    module: str
    numbers: int
    absolute: float
    relative: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """The verdict; a difference that is not a number fails."""
        return self.relative <= self.tolerance


@dataclass(frozen=True)
class Report:
    """All rows, what they are of, and the versions of what was run."""

    subject: str
    rows: tuple[Row, ...]
    versions: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """JSON values: subject, passed, versions, rows; null for a difference that is infinite or not a number."""
        rows = [{**asdict(row), "passed": row.passed} for row in self.rows]
        rows = [{key: None if value == float("inf") else value for key, value in row.items()} for row in rows]
        return {"subject": self.subject, "passed": self.passed, "versions": dict(self.versions), "rows": rows}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The report that `to_json` made these values of."""
        infinite = float("inf")
        rows = [
            Row(**{key: infinite if value is None else value for key, value in row.items() if key != "passed"})
            for row in values["rows"]
        ]
        return cls(values["subject"], tuple(rows), values["versions"])

    def table(self) -> str:
        """The rows as text: aligned columns that are a Markdown table too."""
        head = ("module", "numbers", "largest difference", "relative", "tolerance", "verdict")
        body = [
            (
                row.module,
                f"{row.numbers:,}",
                f"{row.absolute:.1e}",
                f"{row.relative:.1e}",
                f"{row.tolerance:.0e}" if row.tolerance else "0",
                "equal" if row.passed else "DIFFERS",
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]

        def text(line: tuple[str, ...]) -> str:
            cells = [
                cell.rjust(w) if 0 < i < 5 else cell.ljust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ]
            return f"| {' | '.join(cells)} |"

        rule = ["-" * (w + 1) + ":" if 0 < i < 5 else "-" * (w + 2) for i, w in enumerate(widths)]
        return "\n".join([text(head), f"|{'|'.join(rule)}|", *map(text, body)])


def compare(module: str, ours: Value, theirs: Value, *, tolerance: float) -> Row:
    """Compare one array, or several of equal names, with their reference values.

    Args:
        module: name of the row.
        ours: array of the module under test, or a mapping of names to arrays.
        theirs: the reference's, of the same shapes and names.
        tolerance: largest difference relative to the largest absolute reference value of its array. 0 asks for bits.

    Raises:
        ValueError: names or shapes differ, or there are no numbers, so there is nothing to compare.
    """
    pairs = _pairs(module, ours, theirs)
    if not sum(mine.size for mine, _ in pairs):
        raise ValueError(f"{module}: there are no numbers to compare.")
    absolute = relative = 0.0
    for mine, reference in pairs:
        difference = float(np.max(np.abs(mine - reference), initial=0.0))
        size = float(np.max(np.abs(reference), initial=0.0))
        absolute, relative = _worse(absolute, difference), _worse(relative, _ratio(difference, size))
    return Row(module, sum(mine.size for mine, _ in pairs), absolute, relative, tolerance)


def _ratio(difference: float, size: float) -> float:
    return 0.0 if difference == 0 else difference / size if size else float("inf")


def _worse(a: float, b: float) -> float:
    """The larger; not-a-number counts as infinite."""
    return max(a, b) if b == b else float("inf")


def _pairs(module: str, ours: Value, theirs: Value) -> list[tuple[np.ndarray, np.ndarray]]:
    if not isinstance(ours, Mapping):
        ours, theirs = {"": ours}, {"": theirs}
    if ours.keys() != theirs.keys():
        raise ValueError(f"{module}: one side has the names {sorted(ours)}, the other {sorted(theirs)}.")
    pairs = [(_array(ours[name]), _array(theirs[name])) for name in ours]
    for name, (mine, reference) in zip(ours, pairs, strict=True):
        if mine.shape != reference.shape:
            raise ValueError(f"{module} {name}: shape {mine.shape} here and {reference.shape} in the reference.")
    return pairs


def _array(value: Value) -> np.ndarray:
    """The values in float64, so that the comparison itself rounds nothing."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, np.float64)
