"""Names and keys that a person gave to the codes of a world: in its world.json, and in its run for the next packing.

A run remembers them together with the digest of the action model whose codes were named: a world that is packed anew
around the same action model gets them again, one with other codes does not. Codes that true actions were given for have
the names of these until a person names them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch_bridge.bundle import read_manifest, write_manifest
from torch_bridge.keys import key_of
from torch_bridge.manifest import Code, WorldManifest
from train.errors import UserError
from train.progress import Log
from train.run import Run, write_json

SETTING = "code_names"
_LEARNED = "code_names.json"
_LONGEST = 32
_RESERVED = ("random", "hold")


def renamed(codes: Sequence[Code], names: Mapping[int, str], keys: Mapping[int, str]) -> tuple[Code, ...]:
    """The codes with some names and keys changed.

    Args:
        codes: of a world.
        names, keys: by the code's number; a key as a person writes it, see `key_of`.

    Raises:
        UserError: there is no such code or key, two codes would share a name or a key, or a name cannot be used.
    """
    for flag, given in (("--name", names), ("--key", keys)):
        for number, text in given.items():
            if not 0 <= number < len(codes):
                fault, remedy = f"there is no code {number}", f"This world has the codes 0 to {len(codes) - 1}"
                raise UserError(f"{flag} {number}={text}", fault, remedy)
    changed = list(codes)
    for number, text in names.items():
        changed[number] = replace(changed[number], name=_checked_name(number, text))
    for number, text in keys.items():
        try:
            changed[number] = replace(changed[number], key=key_of(text))
        except ValueError as error:
            fault, _, remedy = str(error).partition(". ")
            raise UserError(f"--key {number}={text}", fault, remedy) from error
    _each_its_own("--name", names, [code.name.casefold() for code in changed])
    _each_its_own("--key", keys, [code.key for code in changed])
    return tuple(changed)


def name_codes(folder: Path, names: Mapping[int, str], keys: Mapping[int, str]) -> WorldManifest:
    """Write names and keys into the world in `folder`, and into the run that it belongs to; the new manifest.

    Raises:
        UserError: see `renamed`; or the run is being trained.
    """
    manifest = read_manifest(folder)
    manifest = replace(manifest, codes=renamed(manifest.codes, names, keys))
    run_folder = folder.absolute().parent
    if folder.absolute().name != "world" or not (run_folder / "run.json").is_file():
        write_manifest(folder, manifest)
        return manifest
    run = Run(run_folder)
    with run.lock():
        run.reload()
        write_manifest(folder, manifest)
        given = [{"name": code.name, "key": code.key} for code in manifest.codes]
        run.settings[SETTING] = {"actions": manifest.sha256.get("actions"), "codes": given}
        run.save()
    return manifest


def names_setting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's settings that remembers names, for the settings that take their place."""
    return {SETTING: settings[SETTING]} if SETTING in settings else {}


def restore_names(run: Run, folder: Path, log: Log) -> None:
    """Give a newly packed world the names that its run remembers, if its codes are those that were named."""
    remembered = run.settings.get(SETTING)
    if remembered is None:
        return
    manifest = read_manifest(folder)
    if remembered["actions"] != manifest.sha256["actions"]:
        log("world: its codes are no longer those that were named, so the names were left out; see genie inspect")
        return
    pairs = zip(manifest.codes, remembered["codes"], strict=True)
    codes = tuple(replace(code, name=given["name"], key=given["key"]) for code, given in pairs)
    write_manifest(folder, replace(manifest, codes=codes))


def names_by_labels(majority: Mapping[int, tuple[int, int]], names: Sequence[str], count: int) -> dict[int, str]:
    """Names of codes after the true actions that they go with: "left", and "left 2" for the next code of that action.

    Args:
        majority: of codes: (true action, how many transitions say so); the code with most has the plain name.
        names: of the true actions 0, 1, ...; one without a name is called by its number.
        count: number of codes; those without a majority keep "action 3", and no name is theirs.
    """
    taken = {f"action {code + 1}" for code in range(count)}
    given: dict[int, str] = {}
    for code, (action, _) in sorted(majority.items(), key=lambda item: (-item[1][1], item[0])):
        base = _as_name(names[action] if action < len(names) else "", action)
        place, name = 1, base
        while name.casefold() in taken:
            place += 1
            name = f"{base[: _LONGEST - len(str(place)) - 1].rstrip()} {place}"
        taken.add(name.casefold())
        given[code] = name
    return given


def write_learned_names(folder: Path, names: Mapping[int, str]) -> None:
    """Keep names of codes beside the action model in `folder`, for every packing."""
    write_json(folder / _LEARNED, {str(code): name for code, name in names.items()})


def with_learned_names(codes: Sequence[Code], folder: Path) -> tuple[Code, ...]:
    """The codes with the names that are kept beside the action model in `folder`, if there are any."""
    place = folder / _LEARNED
    names = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    return tuple(replace(code, name=names.get(str(number), code.name)) for number, code in enumerate(codes))


def _as_name(text: str, action: int) -> str:
    """The name of a true action as a code can bear it."""
    kept = "".join(" " if character in ",:=" or not character.isprintable() else character for character in text)
    name = " ".join(kept.split())[:_LONGEST].rstrip()
    if not name or name.isdecimal():
        return f"true action {action}"
    return f"{name} action" if name.casefold() in _RESERVED else name


def _checked_name(number: int, text: str) -> str:
    name, subject = text.strip(), f"--name {number}={text}"
    if not name or len(name) > _LONGEST or not name.isprintable():
        raise UserError(subject, "it is no name", f"Give 1 to {_LONGEST} printed characters")
    if set(name) & set(",:=") or name.isdecimal() or name.casefold() in _RESERVED:
        raise UserError(subject, "the option --actions could not tell it from something else", "Give a word like left")
    return name


def _each_its_own(flag: str, given: Mapping[int, str], values: Sequence[str]) -> None:
    for number, text in given.items():
        for other, value in enumerate(values):
            if other != number and value == values[number]:
                fault = f"code {other} has it already"
                raise UserError(f"{flag} {number}={text}", fault, f"Give code {other} another one: {flag} {other}=...")
