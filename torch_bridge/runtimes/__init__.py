"""How a step of play is computed: what draws its frame, and in how many bits the dynamics read their weights."""

from torch_bridge.runtimes.choice import RUNTIMES, choose_runtime, probes
from torch_bridge.runtimes.measured import Chosen
from torch_bridge.runtimes.weights import WEIGHTS, choose_weights

__all__ = ["RUNTIMES", "WEIGHTS", "Chosen", "choose_runtime", "choose_weights", "probes"]
