"""Feature maps of two frames to one vector: what the action model's encoder reads beside frames, or in their place.

The maps are the tuned frame encoder's, on its small grid, so what they show has been learned from the whole corpus. As
with pictures, what is found at each place is pooled over all places, by mean and by maximum: a code that knows places
would give one action another code in every place.

`N` pairs of frames, `G` side of the grid, `C` channels of the maps, `D` width of a code.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


@dataclass(frozen=True)
class FeatureConfig:
    """Sizes of the features and of what reads them.

    Attributes:
        grid: G, the frame encoder's.
        channels: C, the frame encoder's.
        hidden: width at each place.
    """

    grid: int = 4
    channels: int = 192
    hidden: int = 64


class FeatureEncoder(nnx.Module):
    """Two feature maps to one vector: a convolution over neighbouring places, a layer at each, pooling."""

    def __init__(self, config: FeatureConfig, dim: int, rngs: nnx.Rngs) -> None:
        hidden = config.hidden
        self.near = nnx.Conv(2 * config.channels, hidden, (3, 3), rngs=rngs)
        self.norm = nnx.LayerNorm(hidden, rngs=rngs)
        self.local = nnx.Linear(hidden, hidden, rngs=rngs)
        self.out = nnx.Linear(2 * hidden, dim, rngs=rngs)

    def __call__(self, maps_N2GGC: Float[Array, "N 2 G G C"]) -> Float[Array, "N D"]:
        before, after = maps_N2GGC[:, 0], maps_N2GGC[:, 1]
        x = jax.nn.silu(self.near(jnp.concatenate([before, after - before], -1)))  # N G G hidden
        x = jax.nn.silu(self.local(self.norm(x)))
        return self.out(jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1))  # N D
