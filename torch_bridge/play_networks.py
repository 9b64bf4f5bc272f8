"""What a world's sessions compute with: networks by a runtime, and the dynamics' step by the precision of its weights.

Compared and rounded on latents such as the world has: drawn from the statistics of its corpus, and of its prompts.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8

from torch_bridge.exchange import to_torch
from torch_bridge.frame_codec import FrameCodec
from torch_bridge.latent_player import Knobs, LatentPlayer, Step
from torch_bridge.runtimes import Chosen, choose_runtime, choose_weights, decoder_part, encoder_part, probes
from torch_bridge.runtimes.kinds import Runtime, Staged

PROBES = 4  # latents by which ways to compute are compared
SEEN = 16  # frames of prompts, and as many drawn latents, that the steps of rounded products are taken from

Prompts = Mapping[str, UInt8[np.ndarray, "T H W C"]]


class PlayNetworks(NamedTuple):
    """What draws the frames of sessions, and encodes them anew.

    Attributes:
        draw: w (1, L, D) -> uint8 frame (1, H, W, 3).
        encode: the other way, in two stages.
        drawing, encoding: the choice of each.
    """

    draw: Runtime
    encode: Staged
    drawing: Chosen
    encoding: Chosen


def choose_networks(name: str, codec: FrameCodec, player: LatentPlayer, prompts: Prompts) -> PlayNetworks:
    """Both by a runtime: see `World.use_runtime`."""
    w_NLD = _probes(player, PROBES).to(codec.device)
    std_LD = torch.from_numpy(np.array(player.w_std_LD))
    drawer = decoder_part(codec.decoder, w_NLD, lambda: _seen_latents(codec, player, prompts))
    draw, drawing = choose_runtime(name, drawer)
    frames, seen_frames = lambda: codec.decode(w_NLD), lambda: _seen_frames(codec, player, prompts)
    encoder = encoder_part(codec.encoder, frames, std_LD, codec.decode, seen_frames)
    encode, encoding = choose_runtime(name, encoder)
    return PlayNetworks(draw, cast(Staged, encode), drawing, encoding)


def choose_step(name: str, codec: FrameCodec, player: LatentPlayer, knobs: Knobs) -> tuple[Step, Chosen]:
    """The dynamics' step: see `World.use_weights`."""
    w_NLD = _probes(player, PROBES).numpy()
    return choose_weights(name, player, w_NLD, knobs, lambda w_BLD: codec.decode(to_torch(w_BLD)))


def _probes(player: LatentPlayer, count: int) -> Float[torch.Tensor, "N L D"]:
    return probes(np.asarray(player.w_mean_LD), np.asarray(player.w_std_LD), count)


def _shown(prompts: Prompts) -> UInt8[torch.Tensor, "N H W C"] | None:
    """Some frames of the prompts; None where there are none."""
    frames = [frame for clip in prompts.values() for frame in clip]
    some = np.linspace(0, len(frames) - 1, min(SEEN, len(frames))).astype(int)
    return torch.from_numpy(np.stack([frames[k] for k in some])) if frames else None


def _seen_latents(codec: FrameCodec, player: LatentPlayer, prompts: Prompts) -> Float[torch.Tensor, "M L D"]:
    """Latents such as occur, on the codec's device: of frames of the prompts, and drawn ones that are no probes."""
    shown, drawn = _shown(prompts), _probes(player, PROBES + SEEN)[PROBES:].to(codec.device)
    return drawn if shown is None else torch.cat([codec.encode(shown), drawn])


def _seen_frames(codec: FrameCodec, player: LatentPlayer, prompts: Prompts) -> UInt8[torch.Tensor, "M H W C"]:
    """Frames such as occur, none of a probe: of the prompts, else of latents."""
    shown = _shown(prompts)
    return codec.decode(_seen_latents(codec, player, prompts)) if shown is None else shown
