"""The decoder in play, one frame at a time, by whatever computes it fastest here."""

from torch_bridge.runtimes.choice import RUNTIMES, Chosen, choose_runtime, probes

__all__ = ["RUNTIMES", "Chosen", "choose_runtime", "probes"]
