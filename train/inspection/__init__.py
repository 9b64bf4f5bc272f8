"""What each latent action of a world does: pictures, movement, consistency, effect, true actions, alarms."""

from train.inspection.findings import CodeFindings, Inspection
from train.inspection.inspect import inspect_world
from train.inspection.report import format_table, write_inspection

__all__ = ["CodeFindings", "Inspection", "format_table", "inspect_world", "write_inspection"]
