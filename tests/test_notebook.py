"""How a world shows itself in a notebook."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import worlds
from PIL import Image

from torch_bridge.manifest import Code
from torch_bridge.world import World


def pictures(text):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_shows_what_each_action_does_and_disturbs_nobody():
    manifest, tensors, prompts = worlds.world_parts(codes=tuple(Code(f"<go {i}>", str(i + 1)) for i in range(8)))
    world = World(manifest, tensors, prompts, device="cpu")
    world.reset(prompts["00"])
    world.step(1)
    other = World(manifest, tensors, prompts, device="cpu")
    other.reset(prompts["00"])
    other.step(1)
    text = world._repr_html_()
    assert np.array_equal(world.step(3), other.step(3))
    shown = pictures(text)
    assert len(shown) == 8 * 5
    other.reset(prompts["00"])
    frames = other.rollout([2] * 16)
    for place, step in enumerate((1, 4, 8, 16), start=1):
        # A batch may round otherwise in the last bit, which a random world makes more of.
        difference = [np.abs(shown[row * 5 + place].astype(int) - frames[step - 1]).mean() for row in range(8)]
        assert np.argmin(difference) == 2
        assert difference[2] < 0.5
    assert "&lt;go 7&gt;" in text
    assert "<go" not in text
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)
    parser.feed(text)
    assert tags.count("img") == len(shown)


def test_a_world_without_prompts_says_how_to_begin():
    manifest, tensors, _ = worlds.world_parts()
    assert "world.reset(frames)" in World(manifest, tensors, {}, device="cpu")._repr_html_()
