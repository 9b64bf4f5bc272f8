"""What a world costs in play: numbers that it loads, arithmetic of a step."""

from typing import TYPE_CHECKING

from torch_bridge.frame_codec import count_decoder_flops, count_encoder_flops, count_parameters

if TYPE_CHECKING:
    from torch_bridge.world import World


def parameters_of(world: "World") -> dict[str, int]:
    """Numbers that play loads, by part, and their total."""
    parts = {
        "encoder": count_parameters(world.codec.encoder),
        "decoder": count_parameters(world.codec.decoder),
        "actions": world.actions.parameters(),
        "dynamics": world.player.parameters(),
    }
    return {**parts, "total": sum(parts.values())}


def gflop_of(world: "World") -> dict[str, float]:
    """Arithmetic of one step by part, and the total, in 10^9 operations (two a multiply-add)."""
    every = world.reencode_every()
    parts = {
        "decoder": count_decoder_flops(world.codec, world.config.rows, world.config.style_dim) / 1e9,
        "dynamics": world.player.flops() / 1e9,
        "encoder": count_encoder_flops(world.codec) / 1e9 / every if every else 0.0,
    }
    return {**parts, "total": sum(parts.values())}
