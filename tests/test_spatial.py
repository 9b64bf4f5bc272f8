"""The spatial map in the last rows of w: laid out and read back, encoded, decoded, played; zeros are no map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from media import moving_square, write_video
from worlds import make_world, moving_squares

import train.pipeline
from app.cli import main
from torch_bridge.encoder import Encoder, EncoderConfig
from torch_bridge.frame_codec import FrameCodec, count_decoder_flops
from torch_bridge.mobile_stylegan import PlayDecoder, Student, StudentConfig
from torch_bridge.spatial import join_map, map_rows, split_map, with_zero_map
from torch_bridge.world import World
from train.config import override_config, stored_config
from train.errors import UserError
from train.imported import Imported, check_imports
from train.overrides import to_json
from train.presets import preset
from train.run import Run, read_result
from train.source import Source
from train.torch_stage import seeded

SIZE, DIM, SPATIAL = 32, 16, 2
MAP_ROWS = SPATIAL * 16 // DIM
PLAIN = StudentConfig(SIZE, DIM, (16, 16, 16))
PLAIN_WORLD = StudentConfig(SIZE, DIM, (16, 8, 8))  # the student of `make_world`
MAPPED = StudentConfig(SIZE, DIM, (16, 16, 16), SPATIAL)


def student_of(config: StudentConfig) -> Student:
    return seeded(1, "s", lambda: Student(config))


def encoder_of(**changes: object) -> Encoder:
    config = {"trunk": "b0", "size": SIZE, "style_dim": DIM, "rows": 1 + MAP_ROWS, "spatial": SPATIAL, "width": 8}
    return seeded(1, "e", lambda: Encoder(EncoderConfig(**config | {"taps": (0, 1, 2)} | changes))).eval()


def test_the_map_is_laid_out_and_read_back() -> None:
    styles, mapped = torch.randn(3, 5, DIM), torch.randn(3, SPATIAL, 4, 4)
    w = join_map(styles, mapped)
    assert w.shape == (3, 5 + MAP_ROWS, DIM)
    back = split_map(w, SPATIAL)
    assert torch.equal(back[0], styles)
    assert torch.equal(back[1], mapped)
    assert torch.equal(w[0, 5:].flatten(), mapped[0].flatten())  # channel, row, column


@pytest.mark.parametrize(
    ("spatial", "dim", "rows"), [(0, 512, 0), (32, 512, 1), (8, 128, 1), (24, 128, 3), (1, 16, 1), (3, 24, 2)]
)
def test_rows_of_a_map(spatial: int, dim: int, rows: int) -> None:
    assert map_rows(spatial, dim) == rows


@pytest.mark.parametrize(("spatial", "near"), [(5, "give 0 or 8"), (12, "give 8 or 16"), (-1, "give 0 or 8")])
def test_a_map_that_fills_no_rows_is_refused_with_the_nearest(
    spatial: int, near: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=near):
        map_rows(spatial, 128)
    words = ["train", "a.mp4", "--run", str(tmp_path), "--preset", "tiny", f"--spatial={spatial}"]
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert near in lines[0]


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, PLAIN.rows])
def test_a_zero_map_is_no_map(rows: int) -> None:
    plain, mapped = student_of(PLAIN), student_of(MAPPED)
    assert mapped.load_state_dict(plain.state_dict(), strict=False).missing_keys == ["from_map.conv.weight"]
    w = torch.randn(2, rows, DIM)
    with_zeros = mapped(with_zero_map(w, SPATIAL))
    torch.testing.assert_close(with_zeros, plain(w), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(mapped(join_map(w, torch.randn(2, SPATIAL, 4, 4))), with_zeros, atol=1e-2)
    torch.testing.assert_close(mapped(w[:, 0]), mapped(with_zero_map(w[:, :1], SPATIAL)), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, PLAIN.rows])
def test_play_decoder_equals_student(rows: int) -> None:
    student, w = student_of(MAPPED), torch.randn(2, rows + MAP_ROWS, DIM)
    play = student.for_play()
    torch.testing.assert_close(play(w), student(w), rtol=1e-4, atol=1e-4)
    restored = PlayDecoder(MAPPED)
    restored.load_state_dict(play.state_dict())
    assert torch.equal(restored(w), play(w))
    image, _ = student.images(w)
    torch.testing.assert_close(image, student(w), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_map_says_where() -> None:
    # Of the map alone: another number at one place of 4x4 changes that part of the picture the most.
    student, mapped = student_of(MAPPED), torch.zeros(1, SPATIAL, 4, 4)
    w = torch.randn(1, 1, DIM)
    before = student(join_map(w, mapped))
    mapped[0, :, 0, 3] = 3.0
    change = (student(join_map(w, mapped)) - before).abs().mean(1)[0]
    corners = torch.stack([change[:16, :16], change[:16, 16:], change[16:, :16], change[16:, 16:]])
    assert int(corners.mean((1, 2)).argmax()) == 1


def test_other_numbers_of_rows_are_told() -> None:
    for rows in (1, MAP_ROWS, PLAIN.rows, 2 + MAP_ROWS):
        with pytest.raises(ValueError, match=rf"3, D\) or \(B, {8 + MAP_ROWS}, D\), 2 of them a map, not"):
            student_of(MAPPED)(torch.zeros(1, rows, DIM))
    with pytest.raises(ValueError, match="leave none beside"):
        EncoderConfig("b0", SIZE, DIM, rows=MAP_ROWS, spatial=SPATIAL)


@pytest.mark.parametrize("grid", [2, 4, 8])
def test_the_encoder_predicts_the_map_where_it_sees_it(grid: int) -> None:
    encoder = encoder_of(grid=grid)
    images = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    before = encoder(images)
    assert before.shape == (2, 1 + MAP_ROWS, DIM)
    encoder.set_mean_w(torch.arange(float(DIM)))
    moved = encoder(images) - before
    assert torch.allclose(moved[:, 0], torch.arange(float(DIM)), atol=1e-4)
    assert torch.equal(moved[:, 1:], torch.zeros(2, MAP_ROWS, DIM))  # no generator has a mean map
    features = torch.zeros(1, encoder.map_head.conv.in_channels, grid, grid)
    features[:, :, 0, grid - 1] = 1.0
    change = (encoder.map_head(features) - encoder.map_head(torch.zeros_like(features)))[0].abs().sum(0)
    assert int(change.argmax()) == 3  # top right of 4x4


def test_gradients_reach_the_map_on_both_sides() -> None:
    encoder, student = encoder_of(), student_of(MAPPED)
    student(encoder(torch.rand(2, 3, SIZE, SIZE))).square().mean().backward()
    for name, parameter in [*encoder.map_head.named_parameters(), *student.from_map.named_parameters()]:
        assert parameter.grad.abs().max() > 0, name


def test_every_part_has_the_rows_of_the_map() -> None:
    config = override_config(preset("debug"), {"spatial": "2"})
    assert (config.rows, config.encoder.model.rows, config.dynamics.model.rows) == (3, 3, 3)
    assert config.actions.model.mlp.rows == 3
    both = override_config(config, {"w_plus": "true"})
    assert both.rows == PLAIN.rows + 2
    assert stored_config(to_json(both), "run.json") == both


@pytest.mark.parametrize(
    "names", [("style_dim", "spatial"), ("spatial", "style-dim"), ("spatial", "student.model.style_dim")]
)
def test_width_and_map_can_change_together(names: tuple[str, str]) -> None:
    config = override_config(preset("debug"), {"spatial": "1"})
    changes = {name: "4" if name == "spatial" else "64" for name in names}
    assert override_config(config, changes).rows == 2
    with pytest.raises(UserError, match="give 0 or 4"):
        override_config(config, {"style_dim": "64"})


def test_an_imported_student_has_no_map() -> None:
    config = override_config(preset("debug"), {"spatial": "2", "encoder.perceptual": "0"})
    found = Imported("a.ckpt", {}, student=PLAIN, discriminator=config.teacher.discriminator)
    with pytest.raises(UserError, match="--spatial 2: contradicts the imported student"):
        check_imports(config, {"student": found})


def test_a_world_with_a_map_plays(tmp_path: Path) -> None:
    world = World.load(make_world(tmp_path, spatial=SPATIAL), device="cpu")
    frames = moving_squares(6, seed=3)
    w = world.encode(frames)
    assert w.shape == (6, 1 + MAP_ROWS, DIM)
    assert world.decode(w).shape == frames.shape
    changed = w.copy()
    changed[:, 1:] += 2.0
    assert np.abs(world.decode(changed).astype(int) - world.decode(w)).mean() > 1
    world.reset(frames)
    steps = np.stack([world.step(code) for code in (1, 2, 3)])
    world.reset(frames)
    np.testing.assert_array_equal(world.rollout([1, 2, 3]), steps)
    assert len(np.unique(steps.reshape(3, -1), axis=0)) == 3
    plain = FrameCodec(world.codec.encoder, student_of(PLAIN_WORLD).for_play(), SIZE, torch.device("cpu"))
    with_map, without = count_decoder_flops(world.codec, 1 + MAP_ROWS, DIM), count_decoder_flops(plain, 1, DIM)
    assert with_map - without == 2 * SPATIAL * 16 * 16  # a multiply-add for each channel in, channel out and place


@pytest.mark.parametrize("recipe", ["frozen", "joint"])
def test_a_run_trains_the_map_where_it_is_seen(recipe: str, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", moving_square(60), fps=30)
    changes = {"recipe": recipe, "spatial": "2", "encoder.perceptual": "0", "student.perceptual": "0"}
    config, run = override_config(preset("debug"), changes), Run(tmp_path / "run")
    train.pipeline.train_run(Source((video,)), run, config, device="cpu", until="latents", log=lambda _: None)
    w = np.load(run.folder("latents") / "w.npy")
    assert w.shape[1:] == (3, 16)
    assert w[:, 1:].std(0).min() > 1e-4
    trained = read_result(run.folder("encoder"), "student")["from_map.conv.weight"]
    drawn = seeded(config.seed, "student", lambda: Student(config.student.model)).from_map.conv.weight
    if recipe == "frozen":  # the map reaches the picture by the weights that were drawn
        np.testing.assert_allclose(
            read_result(run.folder("student"), "student")["from_map.conv.weight"], drawn.detach()
        )
        np.testing.assert_allclose(trained, drawn.detach(), atol=1e-6)
    else:
        assert np.abs(trained - drawn.detach().numpy()).max() > 1e-4


def test_without_a_map_a_stage_is_fingerprinted_as_before_there_were_maps() -> None:
    for stage in ("student", "encoder"):
        values = to_json(preset("debug"))[stage]
        assert "spatial" in values["model"]
        assert "spatial" not in train.pipeline._settings(values)["model"]
        values = to_json(override_config(preset("debug"), {"spatial": "1"}))[stage]
        assert train.pipeline._settings(values)["model"]["spatial"] == 1
