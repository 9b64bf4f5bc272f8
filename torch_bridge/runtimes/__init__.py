"""How a step of play is computed: by what its networks run, and in what precision the dynamics read their weights."""

from torch_bridge.runtimes.choice import RUNTIMES, choose_runtime, probes
from torch_bridge.runtimes.measured import Chosen
from torch_bridge.runtimes.parts import decoder_part, encoder_part
from torch_bridge.runtimes.weights import WEIGHTS, choose_weights

__all__ = [
    "RUNTIMES",
    "WEIGHTS",
    "Chosen",
    "choose_runtime",
    "choose_weights",
    "decoder_part",
    "encoder_part",
    "probes",
]
