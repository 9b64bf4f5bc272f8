"""Overrides by dotted path and the JSON form of configs, for any tree of frozen dataclasses.

    config = override(preset("tiny"), {"dynamics.model.layers": "6", "fps": "15"})

Every field of every stage can be set by its dotted path; a typo is answered by the nearest name. The JSON form stands
in `RUN/run.json` and is read back to an equal config.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from train.errors import UserError

C = TypeVar("C")


def fields(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf of a config: dotted path -> value."""
    found: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            found |= fields(value, f"{prefix}{item.name}.")
        else:
            found[f"{prefix}{item.name}"] = value
    return found


def resolve(config: Any, key: str, aliases: Mapping[str, str], others: Sequence[str] = ()) -> str:
    """The dotted path that `key` (a path or an alias, without dashes in front) means.

    Args:
        config: whose fields there are.
        key: as the user wrote it.
        aliases: short name -> dotted path.
        others: options of the command itself, `--run` and the like, which may be meant too.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    known = fields(config)
    name = key.replace("-", "_")
    path = aliases.get(name, name)
    if path in known:
        return path
    near = difflib.get_close_matches(name, [*(word.lstrip("-") for word in others), *aliases, *known], n=1, cutoff=0.6)
    if not near:  # a right last part under a wrong or missing first one
        last = name.rsplit(".", 1)[-1]
        near = [path for path in known if path.rsplit(".", 1)[-1] == last][:1]
    if not near:
        groups = sorted({path.split(".")[0] for path in known})
        raise UserError(f"--{key}", "is no option", f"groups of options: {', '.join(groups)}")
    raise UserError(f"--{key}", "is no option", f"did you mean --{near[0]}?")


def override(
    config: C,
    changes: Mapping[str, str],
    aliases: Mapping[str, str] = types.MappingProxyType({}),
    others: Sequence[str] = (),
) -> C:
    """A copy of `config` with fields set from text.

    Args:
        config: a frozen dataclass of values and frozen dataclasses.
        changes: dotted path or alias -> text, as from a command line. "none" is None, lists are "1,2,3".
        aliases: short name -> dotted path.
        others: options of the command itself, for "did you mean".

    Raises:
        UserError: no such field, or the text does not fit its type.
    """
    for key, text in changes.items():
        path = resolve(config, key, aliases, others)
        try:
            config = _replaced(config, path.split("."), text)
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise UserError(
                f"--{key} {text}", f"does not fit: {first}", f"it is now {fields(config)[path]!r}"
            ) from error
        except ValueError as error:
            raise UserError(f"--{key} {text}", f"does not fit: {error}", "choose another value") from error
    return config


def _replaced(config: Any, path: list[str], text: str) -> Any:
    name, *below = path
    value = _replaced(getattr(config, name), below, text) if below else _parsed(type(config), name, text)
    return dataclasses.replace(config, **{name: value})


def _parsed(owner: type, name: str, text: str) -> Any:
    hint = typing.get_type_hints(owner)[name]
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in options and text.lower() in ("none", "null"):
        return None
    adapter = TypeAdapter(hint)
    if any((typing.get_origin(option) or option) in (tuple, list) for option in options):
        inside = text.strip().removeprefix("[").removesuffix("]")
        parts = [part.strip() for part in inside.split(",") if part.strip()]
        if str in options and not text.strip()[:1].isdigit() and not text.strip().startswith("["):
            return adapter.validate_python(text)
        return adapter.validate_python(parts)
    return adapter.validate_strings(text)


def to_json(config: Any) -> dict[str, Any]:
    """A config as strict JSON values; an infinity is the text "inf".

    Values are brought to their declared types first, so that a float that was written as 1 in a preset reads 1.0, now
    and after the way through a file: fingerprints are hashes of this form.
    """
    typed = TypeAdapter(type(config)).validate_python(dataclasses.asdict(config))
    return _strict(dataclasses.asdict(typed))


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def from_json(kind: type[C], values: Mapping[str, Any], source: object) -> C:
    """Inverse of `to_json`.

    Args:
        kind: the dataclass.
        values: what `to_json` returned, perhaps with fields missing, which then have their defaults.
        source: the file it came from, for the message.

    Raises:
        UserError: a field is unknown to this program or does not fit its type.
    """
    try:
        config = TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        fault = f"holds a config that does not fit ({place}: {error.errors()[0]['msg']})"
        raise UserError(source, fault, "give --preset to configure the run anew") from error
    unknown = _unknown(values, to_json(config))
    if unknown:
        fault = f"holds the field {unknown[0]}, which this program does not know"
        raise UserError(source, fault, "use the version that wrote it, or give --preset to configure the run anew")
    return config


def _unknown(values: Mapping[str, Any], known: Any, prefix: str = "") -> list[str]:
    if not isinstance(known, dict):
        return []
    lost = [f"{prefix}{name}" for name in values if name not in known]
    for name, value in values.items():
        if isinstance(value, Mapping) and name in known:
            lost += _unknown(value, known[name], f"{prefix}{name}.")
    return lost
