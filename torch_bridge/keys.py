"""Keys of a keyboard by the names that a browser gives them: `KeyboardEvent.key` (UI Events specification)."""

import difflib
import re

_NAMED = (
    "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Enter", "Tab", "Escape", "Backspace", "Delete", "Insert",
    "Home", "End", "PageUp", "PageDown", "Shift", "Control", "Alt", "Meta", "CapsLock",
)  # fmt: skip
_MEANT = {
    "left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown",
    "space": " ", "esc": "Escape", "return": "Enter", "ctrl": "Control",
}  # fmt: skip


def key_of(text: str) -> str:
    """The browser's name of the key that a person means: `a`, `7`, `,`, `space`, `left`, `ArrowLeft`, `Enter`, `F5`.

    Letters become small, as a browser tells them while Shift is up.

    Raises:
        ValueError: there is no such key.
    """
    if len(text) == 1 and text.isprintable():
        return text.lower() if len(text.lower()) == 1 else text
    word = text.strip().casefold()
    known = {name.casefold(): name for name in _NAMED} | _MEANT
    if word in known:
        return known[word]
    if re.fullmatch(r"f[1-9]\d?", word):
        return word.upper()
    near = difflib.get_close_matches(word, known, n=1)
    guess = f"Did you mean {near[0]}? " if near else ""
    raise ValueError(
        f"There is no key {text!r}. {guess}Give one character, space, left, right, up, down, Enter, Tab, Shift or F1."
    )
