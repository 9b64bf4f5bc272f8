"""The parser of the command line: argparse with errors in one line, the nearest command, and options of a config."""

import argparse
import difflib
from typing import Any, NoReturn

from train.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """Tells its errors in one line, as every other error is told, and knows the nearest command.

    Attributes:
        takes_overrides: options that the parser does not know are `--KEY VALUE` of a config; they end as the dict
            `overrides` of the namespace, beside `options`, the ones that it knows.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.options: list[str] = []
        self.takes_overrides = False
        super().__init__(*args, **kwargs)

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """As argparse does it, noting the option's names."""
        action = super().add_argument(*args, **kwargs)
        self.options += action.option_strings
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does it, after the overrides were taken out: it would take their values for file names."""
        if not self.takes_overrides:
            return super().parse_known_args(args, namespace)
        words, overrides = self._split(list(args))
        found, rest = super().parse_known_args(words, namespace)
        found.overrides, found.options = overrides, self.options
        return found, rest

    def _split(self, words: list[str]) -> tuple[list[str], dict[str, str]]:
        kept: list[str] = []
        overrides: dict[str, str] = {}
        while words:
            word = words.pop(0)
            key, given, value = word.partition("=")
            if not key.startswith("--") or key in self.options or key == "--":
                kept.append(word)
                continue
            if not given:
                if not words or words[0].startswith("--"):
                    raise UserError(f"{self.prog} {key}", "has no value, or is no option", f"see {self.prog} --help")
                value = words.pop(0)
            overrides[key[2:]] = value
        return kept, overrides

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found as a `UserError`."""
        raise UserError(self.prog, message.replace("\n", " "), f"see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices and isinstance(action.choices, dict):
            near = difflib.get_close_matches(str(value), list(action.choices), n=1)
            remedy = f"did you mean {near[0]}?" if near else f"commands: {', '.join(action.choices)}"
            raise UserError(f"{self.prog} {value}", "there is no such command", remedy)
        super()._check_value(action, value)
