"""Sizes and options of the dynamics (`genie_jax.dynamics`)."""

from dataclasses import dataclass
from typing import Literal

from genie_jax.flow_head import FlowConfig
from genie_jax.nn import Activation
from genie_jax.transformer import StackConfig


@dataclass(frozen=True)
class DynamicsConfig:
    """Sizes and options of the dynamics.

    Attributes:
        width, layers, heads, head_dim: of the transformer; heads * head_dim need not equal width.
        kv_heads: key/value heads, a divisor of `heads`; None for as many as `heads`.
        ff_mult, ff_glu, ff_activation: hidden width width * ff_mult; gated linear unit; "gelu" (exact) or "silu".
        rotary_dims: rotated channels a head, even; None for half of them.
        qk_rmsnorm: RMSNorm of queries and keys.
        window: frames that a token sees.
        codes: latent actions.
        rows, style_dim: L and D of w.
        action: "add" to the frame's token, or "token" of its own after it.
        context_noise: largest noise level of the training context in standard deviations of w; 0: off, no embedding.
        noise_buckets: embedded levels.
        residual: predict the change of w rather than w itself.
        compute_dtype: of matrix products and cache; parameters, norms, softmax and the prediction are float32.
        head: "regression" predicts the mean next w; "flow" draws one of the possible ones.
        flow_steps: Euler steps of a draw.
        flow_width, flow_layers: of the flow's network.
    """

    width: int = 512
    layers: int = 8
    heads: int = 8
    head_dim: int = 64
    kv_heads: int | None = None
    ff_mult: float = 8 / 3
    ff_glu: bool = True
    ff_activation: Activation = "gelu"
    rotary_dims: int | None = None
    qk_rmsnorm: bool = False
    window: int = 16
    codes: int = 8
    rows: int = 1
    style_dim: int = 512
    action: Literal["add", "token"] = "add"
    context_noise: float = 0.7
    noise_buckets: int = 10
    residual: bool = True
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    head: Literal["regression", "flow"] = "regression"
    flow_steps: int = 4
    flow_width: int = 256
    flow_layers: int = 2

    def __post_init__(self) -> None:
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.kv_heads}: choose a divisor.")
        if self.rotary % 2 or not 0 <= self.rotary <= self.head_dim:
            raise ValueError(f"rotary_dims {self.rotary} must be even and at most head_dim {self.head_dim}.")
        if self.action not in ("add", "token"):
            raise ValueError(f'action {self.action!r} is unknown: use "add" or "token".')
        if self.head not in ("regression", "flow"):
            raise ValueError(f'head {self.head!r} is unknown: use "regression" or "flow".')
        for name in ("flow_steps", "flow_width", "flow_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1: give at least 1.")

    @property
    def rotary(self) -> int:
        """Rotated channels of each head."""
        return self.head_dim // 2 // 2 * 2 if self.rotary_dims is None else self.rotary_dims

    @property
    def tokens_per_frame(self) -> int:
        """1, or 2 where the action has a token of its own."""
        return 2 if self.action == "token" else 1

    def flow(self) -> FlowConfig:
        """The part of this config that the flow head sees."""
        features = self.rows * self.style_dim
        return FlowConfig(
            self.width, features, self.flow_width, self.flow_layers, self.flow_steps, dtype=self.compute_dtype
        )

    def stack(self) -> StackConfig:
        """The part of this config that the blocks see."""
        return StackConfig(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads or self.heads,
            head_dim=self.head_dim,
            inner=int(self.width * self.ff_mult),
            gated=self.ff_glu,
            activation=self.ff_activation,
            rotary_dims=self.rotary,
            qk_rmsnorm=self.qk_rmsnorm,
            window=self.window,
            tokens_per_frame=self.tokens_per_frame,
            dtype=self.compute_dtype,
        )
