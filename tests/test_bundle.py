"""The world's folder: what is written comes back bit for bit; what is broken is named."""

import dataclasses
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from torch_bridge import bundle
from torch_bridge.bundle import locate_world, read_world, write_world
from torch_bridge.keys import key_of
from torch_bridge.manifest import Code, Provenance, WorldManifest, numbered_codes

SIZE = 8


def manifest(**changes: object) -> WorldManifest:
    values = {
        "size": SIZE,
        "fps": 12.5,
        "rows": 2,
        "style_dim": 4,
        "window": 16,
        "codes": numbered_codes([3, 1, 0]),
        "encoder": {"trunk": "b0", "grid": [4, 4]},
        "student": {"channels": {"4": 16}},
        "actions": {"form": "warp"},
        "dynamics": {"layers": 2},
        "provenance": Provenance(run="runs/x", config={"seed": 1}, versions={"jax": "0.10"}, sources=("a.mp4",)),
        "metrics": {"psnr": 21.5, "curve": [1.0, 2.0]},
    }
    return WorldManifest(**(values | changes))


def tensors() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    parts = {part: {f"{part}/w": rng.normal(size=(3, 4)).astype(np.float32)} for part in bundle.PARTS}
    parts["encoder"] |= {"half": rng.normal(size=5).astype(ml_dtypes.bfloat16), "scalar": np.array(3, np.int64)}
    parts["decoder"] |= {"transposed": rng.normal(size=(3, 4)).T, "empty": np.zeros((0, 2), np.float16)}
    return parts


def prompts() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.integers(0, 256, (t, SIZE, SIZE, 3), np.uint8) for name, t in (("00", 16), ("one_frame", 1))}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_world(tmp_path / "world", manifest(), tensors(), prompts())
    return tmp_path / "world"


def test_write_then_read_is_the_identity(world: Path) -> None:
    read, parts, clips = read_world(world)
    assert dataclasses.replace(read, sha256={}) == manifest()
    assert set(parts) == set(bundle.PARTS)
    for part, named in tensors().items():
        assert set(parts[part]) == set(named)
        for name, array in named.items():
            assert parts[part][name].dtype == array.dtype
            np.testing.assert_array_equal(parts[part][name], array)
    assert list(clips) == ["00", "one_frame"]
    for name, clip in prompts().items():
        np.testing.assert_array_equal(clips[name], clip)
    with Image.open(world / "prompts" / "00.png") as strip:
        assert strip.size == (16 * SIZE, SIZE)


def test_a_run_folder_means_the_world_in_it(world: Path) -> None:
    assert locate_world(world.parent) == locate_world(world) == world
    with pytest.raises(ValueError, match="no such folder"):
        locate_world(world / "absent")
    with pytest.raises(ValueError, match="genie train"):
        locate_world(world / "prompts")


def test_manifest_is_strict_json_without_nan(world: Path) -> None:
    write_world(
        world, manifest(metrics={"horizon": float("nan"), "n": np.int64(3), "x": [np.float32(np.inf)]}), tensors(), {}
    )
    text = (world / "world.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["metrics"] == {"horizon": None, "n": 3, "x": [None]}


def test_newer_schema_is_refused_with_a_sentence(world: Path) -> None:
    file = world / "world.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"schema": bundle.SCHEMA + 1, "brand_new": 1}))
    with pytest.raises(ValueError, match=r"newer program .* Update this program"):
        read_world(world)


@pytest.mark.parametrize("part", bundle.PARTS)
def test_missing_truncated_and_altered_parts_are_named(world: Path, part: str) -> None:
    file = world / f"{part}.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-3])
    with pytest.raises(ValueError, match=rf"{part}\.safetensors: it is damaged"):
        read_world(world)
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=rf"{part}\.safetensors: it is damaged .*digest"):
        read_world(world)
    file.unlink()
    with pytest.raises(ValueError, match=rf"{part}\.safetensors: it is missing"):
        read_world(world)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not valid JSON"),
        ("[]", "does not state its schema"),
        ('{"schema": 1}', "field size"),
        ('{"schema": 1, "size": "big"}', "field size"),
    ],
)
def test_broken_manifests_are_named(world: Path, text: str, fault: str) -> None:
    (world / "world.json").write_text(text)
    with pytest.raises(ValueError, match=rf"world\.json: .*{fault}"):
        read_world(world)


def test_unknown_field_of_this_schema_is_refused(world: Path) -> None:
    file = world / "world.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"colour": 1}))
    with pytest.raises(ValueError, match="field colour"):
        read_world(world)


def test_broken_prompts_are_named(world: Path) -> None:
    (world / "prompts" / "00.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(ValueError, match=r"00\.png: it is not a readable picture"):
        read_world(world)
    Image.new("RGB", (20, SIZE)).save(world / "prompts" / "00.png")
    with pytest.raises(ValueError, match=r"00\.png: a prompt is a strip"):
        read_world(world)


def test_writing_replaces_a_world_but_nothing_else(world: Path) -> None:
    write_world(world, manifest(fps=30.0), tensors(), {})
    assert read_world(world)[0].fps == 30.0
    assert not read_world(world)[2]
    other = world.parent / "home"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="is not a world"):
        write_world(other, manifest(), tensors(), {})
    assert (other / "letter.txt").read_text() == "dear"


def test_a_failed_write_leaves_the_old_world_and_no_litter(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WorldManifest, "to_json", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_world(world, manifest(fps=30.0), tensors(), prompts())
    monkeypatch.undo()
    assert read_world(world)[0].fps == 12.5
    assert [p.name for p in world.parent.iterdir()] == ["world"]


def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="consists of the parts"):
        write_world(tmp_path / "w", manifest(), {"encoder": {}}, {})
    with pytest.raises(ValueError, match="name is made of"):
        write_world(tmp_path / "w", manifest(), tensors(), {"../evil": prompts()["00"]})
    with pytest.raises(ValueError, match="must be uint8"):
        write_world(tmp_path / "w", manifest(), tensors(), {"a": np.zeros((2, 4, 4, 3), np.uint8)})
    with pytest.raises(ValueError, match="no frame"):
        write_world(tmp_path / "w", manifest(), tensors(), {"a": np.zeros((0, SIZE, SIZE, 3), np.uint8)})
    assert not list(tmp_path.iterdir())


def test_manifest_invariants() -> None:
    with pytest.raises(ValueError, match="key of its own"):
        manifest(codes=(Code("a", "x"), Code("b", "x")))
    with pytest.raises(ValueError, match="fps must be positive"):
        manifest(fps=0.0)
    with pytest.raises(ValueError, match="at least one code"):
        manifest(codes=())
    assert [c.usage for c in numbered_codes([3, 1, 0])] == [0.75, 0.25, 0.0]
    keys = [c.key for c in numbered_codes(np.zeros(64))]
    assert len(set(keys)) == 64
    assert [key_of({" ": "space"}.get(key, key)) for key in keys] == keys  # each is a key that there is
    assert keys[:10] == [*"123456789a"]
    assert not [key for key in keys if key[0] == "F" and int(key[1:]) > 12]  # which no keyboard has
