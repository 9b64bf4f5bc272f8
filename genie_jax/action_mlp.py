"""Action model on latents: a multi-layer perceptron reads (w_t, w_t+1), another predicts w_t+1 from w_t and the code.

Only as good as the motion that w carries: where w was trained for looks alone, the picture form finds actions that
this one cannot. `N` pairs, `L` rows of w, `D` width of a code here.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from genie_jax.action_masking import drop_entries
from genie_jax.clips import Clip
from genie_jax.nn import Params, graph_of, split


@dataclass(frozen=True)
class ActionMLPConfig:
    """Sizes of the latent form.

    Attributes:
        rows: rows of w, 1 for W, more for W+.
        style_dim: width of a row.
        hidden: width of the hidden layers.
        layers: hidden layers of each of the two perceptrons.
    """

    rows: int = 1
    style_dim: int = 512
    hidden: int = 512
    layers: int = 2


class Perceptron(nnx.Module):
    """Linear layers with SiLU between them, each input normalised."""

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int, rngs: nnx.Rngs) -> None:
        widths = [inputs, *[hidden] * layers]
        self.depth = layers
        for i in range(layers):
            setattr(self, f"hidden_{i}", nnx.Linear(widths[i], widths[i + 1], rngs=rngs))
            setattr(self, f"norm_{i}", nnx.LayerNorm(widths[i + 1], rngs=rngs))
        self.out = nnx.Linear(widths[-1], outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "N I"]) -> Float[Array, "N O"]:
        for i in range(self.depth):
            x = jax.nn.silu(getattr(self, f"norm_{i}")(getattr(self, f"hidden_{i}")(x)))
        return self.out(x)


@dataclass(frozen=True)
class MLPForm:
    """The latent form of the action model as pure functions of its parameters; w is the normalised w of the data."""

    config: ActionMLPConfig
    dim: int

    def init(self, key: Array) -> Params:
        """Fresh parameters: `encoder` and `decoder`."""
        encoder_key, decoder_key = jax.random.split(key)
        return {"encoder": split(self._encoder, encoder_key)[1], "decoder": split(self._decoder, decoder_key)[1]}

    def inputs(self, clip: Clip) -> Float[Array, "B T LD"]:
        """The clip's w, rows laid side by side."""
        if clip.w_BTLD is None:
            raise ValueError("the mlp form of the action model reads w: give Clip.w_BTLD")
        rows, width = clip.w_BTLD.shape[-2:]
        if (rows, width) != (self.config.rows, self.config.style_dim):
            raise ValueError(
                f"w has {rows} rows of {width}, the model takes {self.config.rows} of {self.config.style_dim}: "
                "set rows and style_dim of ActionMLPConfig to those of the encoder"
            )
        return clip.w_BTLD.reshape(*clip.w_BTLD.shape[:2], -1)

    def encode(self, params: Params, before_N: Array, after_N: Array) -> Float[Array, "N D"]:
        """One vector for each pair of w."""
        pair = jnp.concatenate([before_N, after_N - before_N], -1)
        return nnx.merge(graph_of(self._encoder), params["encoder"])(pair)

    def masked(self, before_N: Array, share: float, *, key: Array) -> Array:
        """w with a share of its entries dropped."""
        return drop_entries(before_N, share, key=key)

    def decode(
        self, params: Params, before_N: Array, code_ND: Float[Array, "N D"], seen_N: Array | None = None
    ) -> Float[Array, "N LD"]:
        """w of frame t+1 from w of frame t and a code; `seen_N` is what the perceptron sees of w of frame t."""
        pair = jnp.concatenate([before_N if seen_N is None else seen_N, code_ND], -1)
        change = nnx.merge(graph_of(self._decoder), params["decoder"])(pair)
        return before_N + change

    def errors(self, predicted_N: Array, before_N: Array, after_N: Array) -> Array:
        """Mean squared error relative to that of "nothing changes": a scalar."""
        return jnp.mean((predicted_N - after_N) ** 2) / (jnp.mean((after_N - before_N) ** 2) + 1e-6)

    def _encoder(self, rngs: nnx.Rngs) -> Perceptron:
        c = self.config
        return Perceptron(2 * c.rows * c.style_dim, c.hidden, c.layers, self.dim, rngs)

    def _decoder(self, rngs: nnx.Rngs) -> Perceptron:
        c = self.config
        return Perceptron(c.rows * c.style_dim + self.dim, c.hidden, c.layers, c.rows * c.style_dim, rngs)
