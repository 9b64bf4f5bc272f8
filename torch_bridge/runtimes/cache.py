"""Small results kept for this machine, one JSON file each, in the user's cache folder.

GENIE_CACHE names the folder; else it is `efficient-genie` in XDG_CACHE_HOME or in ~/.cache. A file that is missing,
damaged or of something else counts as nothing, and a folder that cannot be written is no fault: all of it can be made
again.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def folder() -> Path:
    """Where results are kept."""
    if named := os.environ.get("GENIE_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "efficient-genie"


def path_of(key: dict[str, Any]) -> Path:
    """The file of a key, which is JSON."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder() / f"runtime-{digest[:16]}.json"


def read(key: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a key, None where there is none that can be read."""
    try:
        stored = json.loads(path_of(key).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # no home folder is a RuntimeError, as is JSON nested too deeply
        return None
    same = isinstance(stored, dict) and stored.get("key") == json.loads(json.dumps(key))
    result = stored.get("result") if same else None
    return result if isinstance(result, dict) else None


def write(key: dict[str, Any], result: dict[str, Any]) -> None:
    """Keep a result, whole or not at all."""
    with contextlib.suppress(OSError, RuntimeError):
        target = path_of(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"key": key, "result": result}, file, indent=1)
            os.replace(name, target)
        except OSError:
            os.unlink(name)
