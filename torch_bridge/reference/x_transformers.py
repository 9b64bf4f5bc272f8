"""Twin of the dynamics: `ContinuousTransformerWrapper` around `Decoder` of the x-transformers package.

The package does all arithmetic of the transformer; the twin adds what the dynamics say about w around it. Codes and
noise levels enter by the wrapper's `sum_embeds`, the window by its `attn_mask`. Weights go both ways bit for bit: a
linear layer's kernel is transposed, stacked layers are split, nothing is computed.

Nothing is cached: every frame is computed from all before it, so that the ring cache has something to equal.
"""

from collections.abc import Mapping

import jax
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from x_transformers import ContinuousTransformerWrapper, Decoder

from genie_jax.dynamics import DynamicsConfig, DynamicsModel
from genie_jax.nn import Params
from genie_jax.trees import flatten_tree, leaf_name, unflatten_tree
from torch_bridge.reference.dynamics_names import places
from torch_bridge.reference.flow_head import FlowHeadTwin


def make_wrapper(config: DynamicsConfig, *, flash: bool = False) -> ContinuousTransformerWrapper:
    """The package's model in the configuration that equals `config`.

    Args:
        config: of the dynamics.
        flash: attention by PyTorch's fused `scaled_dot_product_attention`; the results differ by rounding.

    Raises:
        ValueError: 2 rotated channels a head, for which the package cannot compute its frequencies.
    """
    stack = config.stack()
    if stack.rotary_dims == 2:
        raise ValueError("x-transformers has no rotary embedding of 2 channels: choose rotary_dims 0 or at least 4.")
    features = config.rows * config.style_dim
    decoder = Decoder(
        dim=stack.width,
        depth=stack.layers,
        heads=stack.heads,
        attn_dim_head=stack.head_dim,
        attn_kv_heads=stack.kv_heads,
        attn_qk_rmsnorm=stack.qk_rmsnorm,
        attn_flash=flash,
        attn_project_out=True,  # by itself the package leaves this layer out where there is one head
        use_rmsnorm=True,
        rotary_pos_emb=stack.rotary_dims > 0,
        rotary_emb_dim=stack.rotary_dims or None,
        ff_mult=config.ff_mult,
        ff_glu=stack.gated,
        ff_swish=stack.activation == "silu",
        verbose=False,
    )
    out = features if config.head == "regression" else None  # a flow reads the normed output itself
    return ContinuousTransformerWrapper(
        dim_in=features, dim_out=out, max_seq_len=None, use_abs_pos_emb=False, attn_layers=decoder
    )


class DynamicsTwin(nn.Module):
    """`DynamicsModel` in PyTorch. float32, whatever `compute_dtype` says.

    Args:
        config: of the dynamics.
        params: weights to start with, as `DynamicsModel.init` gives them; None for the package's own.
    """

    def __init__(self, config: DynamicsConfig, params: Params | None = None) -> None:
        super().__init__()
        self.config = config
        self.transformer = make_wrapper(config)
        self.flow: FlowHeadTwin | None = None  # comes with the weights
        self.code = nn.Parameter(torch.zeros(config.codes, config.width))
        noisy = config.context_noise > 0
        self.level = nn.Parameter(torch.zeros(config.noise_buckets, config.width)) if noisy else None
        self.eval()
        if params is not None:
            self.load_params(params)

    def tokens(
        self, w_BTLD: Float[Tensor, "B T L D"], codes_BT: Int[Tensor, "B T"], level_BT: Tensor | None
    ) -> tuple[Float[Tensor, "B N F"], Float[Tensor, "B N M"]]:
        """What the wrapper projects in, and what it adds to that; an action's own token has nothing to project."""
        w, added = w_BTLD.flatten(2), self.code[codes_BT]
        levels = torch.zeros_like(added)
        if self.level is not None:
            level_BT = torch.zeros(codes_BT.shape) if level_BT is None else level_BT
            bucket = (level_BT / self.config.context_noise * self.config.noise_buckets).long()
            levels = self.level[bucket.clamp(0, self.config.noise_buckets - 1)]
        if self.config.action == "add":
            return w, levels + added
        return _interleave(w, torch.zeros_like(w)), _interleave(levels, added)

    def mask(self, tokens: int) -> Tensor:
        """(N, N), True where a token may see another: itself and what came before, inside the window of frames."""
        frame = torch.arange(tokens) // self.config.tokens_per_frame
        return torch.ones(tokens, tokens).tril().bool() & (frame[:, None] - frame[None] < self.config.window)

    def forward(
        self,
        w_BTLD: Float[Tensor, "B T L D"],
        codes_BT: Int[Tensor, "B T"],
        level_BT: Float[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T L D"]:
        """As `DynamicsModel.apply`."""
        projected, added = self.tokens(w_BTLD, codes_BT, level_BT)
        out = self.transformer(projected, sum_embeds=added, attn_mask=self.mask(projected.shape[1]))
        per_frame = self.config.tokens_per_frame
        predicted = out[:, per_frame - 1 :: per_frame]
        if self.flow is not None:
            predicted = self.flow.change(predicted, torch.zeros_like(w_BTLD.flatten(2)), level_BT)
        predicted = predicted.reshape(w_BTLD.shape)
        if not self.config.residual:
            return predicted
        return predicted + (w_BTLD if level_BT is None else w_BTLD / (1 + level_BT[..., None, None].square()))

    @torch.no_grad()
    def load_params(self, params: Params) -> None:
        """Take over the weights of a `DynamicsModel` of the same config."""
        leaves, own = flatten_tree(params), dict(self.named_parameters())
        for place in places(self.config):
            theirs = place.to_theirs(place.part(leaves[place.ours]))
            own[place.theirs].copy_(torch.from_numpy(np.array(theirs)))
        if self.config.head == "flow":
            self.flow = FlowHeadTwin(self.config.flow(), flatten_tree(params["head"]))

    def params(self) -> Params:
        """The weights as `DynamicsModel.init` gives them."""
        return self._gather({name: parameter.detach() for name, parameter in self.named_parameters()})

    def gradients(self) -> Params:
        """The gradients of the last backward pass as a tree of parameters; zeros where none arrived.

        Raises:
            ValueError: the dynamics have a flow head, whose twin is not trained.
        """
        if self.flow is not None:
            raise ValueError("the twin of a flow head has no gradients: compare its forward pass alone.")
        return self._gather({n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.named_parameters()})

    def _gather(self, tensors: Mapping[str, Tensor]) -> Params:
        like = jax.eval_shape(DynamicsModel(self.config).init, jax.random.key(0))
        named = jax.tree_util.tree_leaves_with_path(like)
        leaves = {leaf_name(path): np.empty(leaf.shape, np.float32) for path, leaf in named}
        for name, leaf in ({} if self.flow is None else self.flow.leaves).items():
            leaves[f"head/{name}"][...] = leaf.numpy()
        for place in places(self.config):
            place.part(leaves[place.ours])[...] = place.to_ours(tensors[place.theirs].numpy())
        return unflatten_tree(leaves, like, what="the twin")


def _interleave(first: Tensor, second: Tensor) -> Tensor:
    """Tokens first, second, first, second, ... of two sequences (B, T, C)."""
    return torch.stack([first, second], 2).flatten(1, 2)
