"""Evaluation of a world on frames that it has not seen: definitions in docs/metrics.md.

The names below are loaded when they are first asked for, so that reading results asks for no framework.
"""

import importlib

_HOMES = {
    "GROUPS": "train.evaluate.suite",
    "PICTURES": "train.evaluate.suite",
    "TrueActions": "train.evaluate.truth",
    "evaluate": "train.evaluate.suite",
    "load_actions": "train.evaluate.truth",
    "mean_of_frames": "train.evaluate.suite",
}
__all__ = ["GROUPS", "PICTURES", "TrueActions", "evaluate", "load_actions", "mean_of_frames"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
