"""`world.json`: what a world says about itself, as frozen dataclasses, with the version of its own schema."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

SCHEMA = 1
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Code:
    """One latent action as a person meets it.

    `key` is the name of the keyboard's key (the browser's `KeyboardEvent.key`); `usage` the share of the corpus's
    transitions that carry the code.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    name: str
    key: str
    usage: float = 0.0


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a world comes from: the run, its whole config, the versions of program and libraries, the videos."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    run: str = ""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    sources: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class WorldManifest:
    """What `world.json` says.

    Args:
        size: height and width of a frame in pixels.
        fps: frames a second of the corpus, and so of play.
        rows, style_dim: L and D of w.
        window: the number of past frames that the dynamics sees.
        codes: the latent actions in the codebook's order.
        encoder, student, actions, dynamics: fields of the parts' config classes (`EncoderConfig`, `StudentConfig`,
            `LatentActionConfig`, `DynamicsConfig`).
        noise_level: context-noise level at which play runs the dynamics, None for a model without such an input.
        clamp: standard deviations beyond which a generated w is clamped, row by row; None for no clamp.
        temperature: of a flow head's draws; None for 1, and for dynamics that draw nothing.
        reencode_every: steps after which play replaces the generated w by that of the decoded frame; None for never.
        provenance, metrics: for people and reports; play reads neither.
        sha256: digest of each tensor file, filled by `write_world`.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    size: int
    fps: float
    rows: int
    style_dim: int
    window: int
    codes: tuple[Code, ...]
    encoder: dict[str, Any]
    student: dict[str, Any]
    actions: dict[str, Any]
    dynamics: dict[str, Any]
    noise_level: float | None = None
    clamp: float | None = None
    temperature: float | None = None
    reencode_every: int | None = None
    provenance: Provenance = Provenance()
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name in ("size", "fps", "rows", "style_dim", "window"):
            if not getattr(self, name) > 0:
                raise ValueError(f"A world's {name} must be positive, not {getattr(self, name)}.")
        if not self.codes:
            raise ValueError("A world needs at least one code.")
        keys = [code.key for code in self.codes]
        if len(set(keys)) < len(keys):
            raise ValueError(f"Each code of a world needs a key of its own, not {keys}.")

    def to_json(self) -> str:
        """The manifest as strict JSON: numbers that are not finite become null."""
        return json.dumps(_finite(dataclasses.asdict(self)), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> WorldManifest:
        """Raises ValueError, with the fault, where the text is no manifest or is newer than this program."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ValueError(f"it is not valid JSON ({error})") from error
        schema = values.get("schema") if isinstance(values, dict) else None
        if not isinstance(schema, int):
            raise ValueError("it does not state its schema, so it is no world manifest")
        if schema > SCHEMA:
            raise ValueError(
                f"it was written in schema {schema} by a newer program than this one, which knows up to {SCHEMA}"
            )
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"field {'.'.join(map(str, first['loc'])) or 'world'}: {first['msg']}") from error


def parse_config(kind: type[T], fields: Mapping[str, Any]) -> T:
    """The config dataclass of a part from the dict of its fields in a manifest; fields left out take their defaults.

    Raises:
        ValueError: a field is unknown, of the wrong type, or refused by the class.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(fields) - known):
        raise ValueError(
            f"{kind.__name__} has no field {', '.join(unknown)}. Update this program, or correct the world."
        )
    try:
        return TypeAdapter(kind).validate_python(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{kind.__name__}, field {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def numbered_codes(usage: np.ndarray | list[float]) -> tuple[Code, ...]:
    """The codes of a world whose actions nobody has named yet: "action 1" on key 1 and so on.

    Nine digits, then letters, then the other keys that a keyboard has; enough for 64 codes.

    Args:
        usage: (K,) share or count of each code in the corpus; normalised to sum to 1.
    """
    share = np.asarray(usage, dtype=np.float64)
    share = share / max(share.sum(), 1e-12)
    arrows = ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown")
    keys = [*"123456789abcdefghijklmnopqrstuvwxyz0-=[];',./\\`", *arrows, " ", *(f"F{i}" for i in range(1, 13))]
    return tuple(
        Code(f"action {i + 1}", keys[i] if i < len(keys) else f"F{i}", round(float(s), 6)) for i, s in enumerate(share)
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity, and NumPy's scalars are no JSON numbers."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
