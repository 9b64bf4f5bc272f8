"""A world as a notebook shows it: what it is, and a film strip of each of its actions, held from the first prompt."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image

if TYPE_CHECKING:
    from torch_bridge.world import World

STEPS = (1, 4, 8, 16)
MOST_CODES = 8
HEIGHT = 96  # pixels of a frame on the page


def world_html(world: World) -> str:
    """A fragment of HTML with its pictures inside; plays for itself, the world's own player stays where it stands."""
    config = world.config
    parameters = world.parameters()["total"] / 1e6
    about = f"{config.size}x{config.size}, {config.fps:.1f} frames a second, {parameters:.1f} M parameters"
    head = f"<p><b>World</b>: {about}, {len(config.codes)} actions</p>"
    if not world.prompts:
        return f"{head}<p>It has no prompt of its own: begin with <code>world.reset(frames)</code>.</p>"
    prompt_THWC = next(iter(world.prompts.values()))
    codes = range(min(len(config.codes), MOST_CODES))
    held_KS = np.repeat(np.arange(len(codes), dtype=np.int32)[:, None], STEPS[-1], axis=1)
    frames_KSHWC = world.rollout_batch(np.stack([prompt_THWC] * len(codes)), None, held_KS, steps=STEPS)
    columns = "".join(f"<th>{'prompt' if not step else f'step {step}'}</th>" for step in (0, *STEPS))
    rows = [f"<tr><th></th><th></th>{columns}</tr>"]
    for code, frames_SHWC in zip(codes, frames_KSHWC, strict=True):
        said = config.codes[code]
        cells = "".join(f"<td>{_picture(frame)}</td>" for frame in (prompt_THWC[-1], *frames_SHWC))
        rows.append(f"<tr><th>{code}</th><td>{html.escape(said.name)}</td>{cells}</tr>")
    more = f"<p>and {len(config.codes) - len(codes)} more actions</p>" if len(config.codes) > len(codes) else ""
    return f"{head}<table>{''.join(rows)}</table>{more}"


def _picture(frame_HWC: UInt8[np.ndarray, "H W 3"]) -> str:
    out = io.BytesIO()
    Image.fromarray(frame_HWC).save(out, "PNG")
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img alt="" height="{HEIGHT}" style="image-rendering:pixelated" src="data:image/png;base64,{data}">'
