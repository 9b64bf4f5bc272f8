"""Where an evaluation lies, and metrics.json read back: checked, so that what shows it need not check again."""

import json
from collections.abc import Mapping
from pathlib import Path

from train.errors import UserError
from train.evaluate.results import SCHEMA

METRICS = "metrics.json"
_REMEDY = "Give what 'genie evaluate' wrote: its folder, its metrics.json, or the run"
# Objects of metrics.json that describe and do not measure.
DESCRIBING = ("schema", "data", "world", "made", "details")


def evaluation_folder(world: Path, kind: str = "evaluation") -> Path:
    """Where results of a kind on the world in a folder are written: RUN/evaluation, else beside the world."""
    return world.parent / (kind if world.name == "world" else f"{world.name}-{kind}")


def locate_metrics(path: str | Path) -> Path:
    """The metrics.json that a path means: itself, or that of an evaluation's folder, of a run or of a world.

    Raises:
        UserError: there is none.
    """
    given = Path(path)
    if given.is_file():
        return given
    if not given.exists():
        raise UserError(path, "there is no such file or folder", _REMEDY)
    whole = given.resolve()
    for folder in (given, given / "evaluation", evaluation_folder(whole)):
        if (folder / METRICS).is_file():
            return folder / METRICS
    raise UserError(path, f"it holds no {METRICS}", "Write one with 'genie evaluate'")


def read_metrics(path: str | Path) -> dict:
    """The tree of docs/metrics.md.

    Raises:
        UserError: it is no such file, or of a newer program.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(path, "it is no JSON", _REMEDY) from error
    if not isinstance(tree, dict) or not isinstance(tree.get("schema"), int):
        raise UserError(path, "it is no result of an evaluation", _REMEDY)
    if tree["schema"] > SCHEMA:
        fault = f"it has schema {tree['schema']}, and this program knows {SCHEMA}"
        raise UserError(path, fault, "Update this program")
    for name in ("data", "details"):
        if name not in tree:
            raise UserError(path, f"its `{name}` is missing", _REMEDY)
    for name in DESCRIBING:
        if name != "schema" and not isinstance(tree.get(name, {}), dict):
            raise UserError(path, f"its `{name}` is no object", _REMEDY)
    for key, value in leaves(tree):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(path, f"its `{key}` is no number", _REMEDY)
    return tree


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def leaves(tree: Mapping) -> list[tuple[str, object]]:
    """(dotted key, value) of everything that is measured: steps and parts are the last names of their keys."""
    found: list[tuple[str, object]] = []
    rest = [(name, node) for name, node in reversed(list(tree.items())) if name not in DESCRIBING]
    while rest:
        key, node = rest.pop()
        if isinstance(node, Mapping):
            rest += [(f"{key}.{name}", below) for name, below in reversed(list(node.items()))]
        else:
            found.append((key, node))
    return found
