"""report.html of an evaluation, and of several beside each other."""

from train.evaluate.report.write import write_report

__all__ = ["write_report"]
