"""Evaluation of a world on frames that it has not seen: definitions in docs/metrics.md."""

from train.evaluate.suite import evaluate, mean_of_frames
from train.evaluate.truth import TrueActions, load_actions

__all__ = ["TrueActions", "evaluate", "load_actions", "mean_of_frames"]
