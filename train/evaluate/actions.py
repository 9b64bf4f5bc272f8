"""The codes themselves: how many are in use, and whether they mean what the player's true actions meant.

Genie's dictionary (arXiv 2402.15391, section 3, behavioural cloning) gives each code the true action that it most often
went with, from 200 labels. Every score stands beside what chance would score on the same transitions.
"""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score

from train.evaluate.bootstrap import Estimate, mean_estimate
from train.evaluate.context import Context
from train.evaluate.results import Results
from train.evaluate.transitions import Transitions

LABELS = 200
IN_USE = 0.01
_DRAWS = 20
_BLOCK = 64  # consecutive transitions are alike: the bootstrap draws them together
AGREEMENT = ("nmi", "probe_accuracy", "probe_accuracy_vector", "mode_accuracy")


def report_codes(context: Context, transitions: Transitions, results: Results) -> None:
    """Write `actions.{perplexity,usage}`."""
    share_K = np.bincount(transitions.codes_N, minlength=context.code_count) / len(transitions.codes_N)
    used = share_K[share_K > 0]
    said = {"n": len(transitions.codes_N), "seed": context.seed, "share_by_code": share_K.round(4).tolist()}
    results.number("actions.perplexity", float(np.exp(-(used * np.log(used)).sum())), best=context.code_count, **said)
    results.number("actions.usage", int((share_K >= IN_USE).sum()), best=context.code_count, at_least=IN_USE, **said)


def report_agreement(
    context: Context, transitions: Transitions, results: Results, name: Callable[[int], str] = str
) -> None:
    """Write `actions.{nmi,probe_accuracy,mode_accuracy}` and `actions.chance.*`; null without true actions.

    `name` gives the name of a true action, for the table of codes and actions in the details.
    """
    actions = transitions.actions_N
    if actions is None:
        _all_missing(results, AGREEMENT, "no true actions were given (--actions A.npz)")
        return
    if len(np.unique(actions)) < 2:
        _all_missing(results, AGREEMENT, "the true actions of this video are all the same")
        return
    _report_nmi(context, transitions.codes_N, actions, results, name)
    _report_probe(context, transitions, actions, results)
    _report_mode(context, transitions.codes_N, actions, results)
    results.missing("actions.probe_accuracy_vector", "the world gives codes only, not the vector before quantisation")


def _report_nmi(
    context: Context, codes: np.ndarray, actions: np.ndarray, results: Results, name: Callable[[int], str]
) -> None:
    rng = context.rng("nmi")
    chance = np.mean([normalized_mutual_info_score(rng.permutation(actions), codes) for _ in range(_DRAWS)])
    said = {"n": len(codes), "seed": context.seed}
    met = confusion(codes, actions, context.code_count, name)
    results.number("actions.nmi", float(normalized_mutual_info_score(actions, codes)), confusion=met, **said)
    results.number("actions.chance.nmi", float(chance), how="true actions shuffled in time", **said)


def confusion(
    codes_N: Int[np.ndarray, " N"], actions_N: Int[np.ndarray, " N"], code_count: int, name: Callable[[int], str]
) -> dict[str, list]:
    """How often each code met each true action: `counts[code][i]` steps with the action named `actions[i]`."""
    values, column = np.unique(actions_N, return_inverse=True)
    counts = np.zeros((code_count, len(values)), np.int64)
    np.add.at(counts, (codes_N, column), 1)
    return {"actions": [name(int(value)) for value in values], "counts": counts.tolist()}


def _report_probe(context: Context, transitions: Transitions, actions: np.ndarray, results: Results) -> None:
    training = transitions.training_N
    one_hot = np.eye(context.code_count, dtype=np.float32)[transitions.codes_N]
    chance = accuracy_of_majority(actions[training], actions[~training])
    if len(np.unique(actions[training])) < 2:
        _all_missing(results, ("probe_accuracy",), "the training episodes hold one true action only")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # one-hot input: the classes are settled long before
        probe = LogisticRegression(max_iter=200).fit(one_hot[training], actions[training])
    correct = probe.predict(one_hot[~training]) == actions[~training]
    said = {"seed": context.seed, "split": transitions.split}
    results.number("actions.probe_accuracy", in_blocks(correct, context.seed), **said)
    results.number("actions.chance.probe_accuracy", chance, n=len(correct), how="majority true action", **said)


def _report_mode(context: Context, codes: np.ndarray, actions: np.ndarray, results: Results) -> None:
    rng = context.rng("labels")
    labels = min(LABELS, len(codes) // 2)
    scores, chances = [], []
    for _ in range(_DRAWS):
        order = rng.permutation(len(codes))
        seen, rest = order[:labels], order[labels:]
        scores.append(mode_accuracy(codes, actions, seen, rest).mean())
        chances.append(accuracy_of_majority(actions[seen], actions[rest]))
    said = {"n": len(codes) - labels, "labels": labels, "draws": _DRAWS, "seed": context.seed}
    low, high = np.percentile(scores, [2.5, 97.5])
    interval = [round(float(low), 4), round(float(high), 4)]
    results.number(
        "actions.mode_accuracy", float(np.mean(scores)), interval=interval, interval_over="draws of labels", **said
    )
    results.number("actions.chance.mode_accuracy", float(np.mean(chances)), how="majority true action", **said)


def mode_accuracy(
    codes_N: Int[np.ndarray, " N"], actions_N: Int[np.ndarray, " N"], seen: np.ndarray, rest: np.ndarray
) -> Float[np.ndarray, " R"]:
    """Whether the dictionary code -> most frequent true action, made from `seen`, is right, for each of `rest`.

    A code that `seen` lacks is given the most frequent action of all.
    """
    table = np.full(codes_N.max() + 1, _most_frequent(actions_N[seen]))
    for code in np.unique(codes_N[seen]):
        table[code] = _most_frequent(actions_N[seen][codes_N[seen] == code])
    return (table[codes_N[rest]] == actions_N[rest]).astype(np.float64)


def accuracy_of_majority(training: Int[np.ndarray, " n"], scored: Int[np.ndarray, " m"]) -> float:
    """Accuracy of always naming the most frequent value of `training`: what chance scores."""
    return float(np.mean(scored == _most_frequent(training)))


def in_blocks(correct: np.ndarray, seed: int) -> Estimate:
    """Accuracy of consecutive transitions, with its interval."""
    return mean_estimate(correct.astype(np.float64), groups=np.arange(len(correct)) // _BLOCK, seed=seed)


def _most_frequent(values: Int[np.ndarray, " n"]) -> int:
    names, counts = np.unique(values, return_counts=True)
    return int(names[counts.argmax()])


def _all_missing(results: Results, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        results.missing(f"actions.{name}", reason)
        if name != "probe_accuracy_vector":
            results.missing(f"actions.chance.{name}", reason)
