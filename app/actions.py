"""The codes that a rollout takes, as a person writes them: `0,0,3`, `left,left,fire`, `random`, `hold:2`."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from train.errors import UserError

STAY = 0.85  # probability that a random player keeps the held code for another frame: about 7 frames a code


def parse_actions(
    text: str, steps: int | None, usage: list[float], seed: int, names: Sequence[str] = ()
) -> Int[np.ndarray, " S"]:
    """The codes of S steps.

    Args:
        text: codes parted by commas, repeated until there are enough; `hold:K` for one code; `random` for sticky
            random codes, drawn as often as the corpus uses them. A code is a number or a name.
        steps: S; None for as many as are listed, or 100.
        usage: share of each code in the corpus.
        seed: of the random codes.
        names: of the codes, in the order of their numbers.

    Raises:
        UserError: the text is none of these, names a code that the world lacks, or there is no step to make.
    """
    count = len(usage)
    if steps is not None and steps < 1:
        raise UserError(f"--steps {steps}", "there is nothing to roll out", "Give at least 1.")
    if text == "random":
        return _sticky(100 if steps is None else steps, usage, seed)
    held = text.startswith("hold:")
    numbers = {name.casefold(): number for number, name in enumerate(names)}
    try:
        words = [word.strip().casefold() for word in text.removeprefix("hold:").split(",")]
        listed = [numbers[word] if word in numbers else int(word) for word in words]
    except ValueError as error:
        known = f" The codes of this world are called {', '.join(names)}." if names else ""
        remedy = f"Write 0,0,3 or hold:2 or random.{known}"
        raise UserError(f"--actions {text}", "not a list of codes", remedy) from error
    if held and len(listed) != 1:
        raise UserError(f"--actions {text}", "one code can be held", "Write hold:2, or a list without hold.")
    for code in listed:
        if not 0 <= code < count:
            raise UserError(
                f"--actions {text}", f"there is no code {code}", f"This world has the codes 0 to {count - 1}."
            )
    length = steps or (100 if held else len(listed))
    return np.resize(np.array(listed, np.int32), length)


def _sticky(steps: int, usage: list[float], seed: int) -> Int[np.ndarray, " S"]:
    rng = np.random.default_rng(seed)
    share = np.array(usage, np.float64)
    share = share / share.sum() if share.sum() > 0 else np.full(len(share), 1 / len(share))
    fresh = rng.choice(len(share), steps, p=share)
    change = rng.random(steps) >= STAY
    change[0] = True
    return fresh[np.maximum.accumulate(np.where(change, np.arange(steps), 0))].astype(np.int32)
