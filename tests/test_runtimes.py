"""Runtimes of the frames of play: the same frames from each, the choice among them, what is kept of it, sessions."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_kernels import NAMES_KERNELS, integer_convolutions
from worlds import make_world, moving_squares

from app.cli import main
from torch_bridge.mobile_stylegan import PlayDecoder, Student, StudentConfig
from torch_bridge.runtimes import cache, choice, choose_runtime, decoder_part, kinds, measured, probes
from torch_bridge.runtimes.kinds import Runtime, make_runtime
from torch_bridge.runtimes.measured import Unavailable
from torch_bridge.runtimes.parts import ROUNDED, W_TOLERANCE
from torch_bridge.world import World

SMALL = StudentConfig(32, 16, (16, 8, 8))
WIDE = StudentConfig(32, 512, (512, 256, 128))  # the widths of `laptop`


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENIE_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(measured, "MEASURE_SECONDS", 0.0)
    monkeypatch.setattr(choice, "COMPILED_ABOVE", 1e9)
    return tmp_path / "kept"


def decoder_of(config: StudentConfig = SMALL, *, noisy: bool = False, seed: int = 0) -> PlayDecoder:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        student = Student(config)
        for name, parameter in student.named_parameters():
            if name.endswith("noise.weight"):
                parameter.fill_(0.3)
        noise = [torch.randn(shape) for shape in student.noise_shapes] if noisy else None
        return student.for_play(noise).eval()


def runtime_of(kind: str, decoder: PlayDecoder, w_NLD: torch.Tensor) -> Runtime:
    return make_runtime(kind, decoder_part(decoder, w_NLD).network, w_NLD[:1])


def w_of(config: StudentConfig, rows: int = 1, count: int = 4) -> torch.Tensor:
    shape = (rows + config.map_rows, config.style_dim)
    return probes(np.zeros(shape, np.float32), np.ones(shape, np.float32), count)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("config", "rows", "noisy"),
    [
        (SMALL, 1, False),
        (SMALL, SMALL.rows, False),
        (SMALL, 1, True),
        (dataclasses.replace(SMALL, spatial=2), 1, False),
        (dataclasses.replace(SMALL, spatial=2), SMALL.rows, True),
        (WIDE, 1, False),
    ],
)
def test_a_runtime_draws_the_frames_of_eager(config: StudentConfig, rows: int, noisy: bool, name: str) -> None:
    decoder, w_NLD = decoder_of(config, noisy=noisy), w_of(config, rows)
    eager, other = (runtime_of(kind, decoder, w_NLD) for kind in ("eager", name))
    for w_LD in w_NLD:
        ours, theirs = other(w_LD[None]), eager(w_LD[None])
        assert ours.dtype == torch.uint8
        assert ours.shape == theirs.shape == (1, config.size, config.size, 3)
        apart = (ours.int() - theirs.int()).abs()
        assert apart.max() <= measured.TOLERANCE
        assert apart.float().mean() <= measured.MEAN_TOLERANCE
    assert not torch.equal(other(w_NLD[:1]), other(w_NLD[1:2]))


def psnr(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    squares = [(a.float() - b.float()).square().mean() for a, b in zip(ours, theirs, strict=True)]
    return float(10 * torch.log10(255**2 / torch.stack(squares).mean()))


@pytest.mark.parametrize("config", [SMALL, WIDE, dataclasses.replace(SMALL, spatial=2)])
def test_rounded_products_are_computed_in_integers(config: StudentConfig) -> None:
    decoder, w_NLD = decoder_of(config, noisy=True), w_of(config)
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    part = decoder_part(decoder, w_NLD, lambda: w_of(config, count=16))
    exact, integers = (make_runtime(kind, part.network, w_NLD[:1]) for kind in ("eager", ROUNDED))
    rounded = make_runtime("eager", lambda _: part.network(ROUNDED), w_NLD[:1])
    frames = {name: [draw(w[None]) for w in w_NLD] for name, draw in (("r", rounded), ("i", integers), ("e", exact))}
    assert 32 < psnr(frames["r"], frames["e"]) < 60  # it is rounded
    assert psnr(frames["i"], frames["r"]) > psnr(frames["r"], frames["e"]) + 6  # and as it says
    if NAMES_KERNELS:  # the first has four bands; a block has one and four bands, the last block one and one
        assert integer_convolutions(integers) == 4 + 5 * (len(config.channels) - 2) + 2
    for name, tensor in decoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_frames_that_rounding_spoils_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = decoder_part(decoder_of(), w_of(SMALL))
    monkeypatch.setattr(measured, "LEAST_PSNR", 200.0)
    with pytest.raises(ValueError, match=r"'openvino-int8' has other frames: a PSNR of \d+.\d dB, and 200 are wanted"):
        choose_runtime(ROUNDED, part)
    _, chosen = choose_runtime("auto", part)
    assert "a PSNR of" in chosen.left_out[ROUNDED]
    assert chosen.name != ROUNDED


@pytest.mark.parametrize("config", [SMALL, WIDE])
def test_frames_from_integers_are_good_enough(config: StudentConfig) -> None:
    part = decoder_part(decoder_of(config), w_of(config), lambda: w_of(config, count=16))
    exact, integers = (make_runtime(kind, part.network, part.probes()[:1]) for kind in ("eager", ROUNDED))
    assert part.fault(ROUNDED, ((integers(w[None]), exact(w[None])) for w in part.probes())) == ""


def test_each_frame_from_integers_must_look_the_same() -> None:
    part = decoder_part(decoder_of(), w_of(SMALL))
    frame = torch.full((1, 8, 8, 3), 100, dtype=torch.uint8)
    assert part.fault(ROUNDED, [(frame + 4, frame)] * 3) == ""  # 36.1 dB
    assert part.fault(ROUNDED, [(frame + 5, frame)] * 3) == "a PSNR of 34.2 dB, and 35 are wanted"
    one = [(frame, frame)] * 3 + [(frame + 7, frame)]  # 37.2 dB together
    assert part.fault(ROUNDED, one) == "a PSNR of 31.2 dB for one frame, and 32 are wanted"
    assert part.fault("openvino", [(frame + 4, frame)]) == "up to 4 grey levels apart, 4.00 on average"


@pytest.mark.usefixtures("kept")
def test_kept_integers_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their steps are from latents that have no part in the key."""
    monkeypatch.setattr(choice, "MEASURED", ("eager", ROUNDED))
    monkeypatch.setattr(choice, "medians", lambda calls: {name: float(name == "eager") for name in calls})
    decoder, w_NLD = decoder_of(), w_of(SMALL)
    assert choose_runtime("auto", decoder_part(decoder, w_NLD))[1].name == ROUNDED
    assert choose_runtime("auto", decoder_part(decoder, w_NLD))[1].how == "cached"
    near_zero = decoder_part(decoder, w_NLD, lambda: 0.01 * w_NLD)  # larger inputs than these are cut off
    _, chosen = choose_runtime("auto", near_zero)
    assert (chosen.name, chosen.how) == ("eager", "measured")
    assert "a PSNR of" in chosen.left_out[ROUNDED]


def test_nothing_is_made_for_a_runtime_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    part = decoder_part(decoder_of(), w_of(SMALL), lambda: pytest.fail("made steps for it"))
    assert ROUNDED in choose_runtime("measure", part)[1].left_out


def test_a_machine_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(Unavailable, match=r"needs a C\+\+ compiler"):
        choose_runtime("compile", decoder_part(decoder_of(), w_of(SMALL)))


def test_an_installation_without_them_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for name, packages in (("onnx", "onnx onnxruntime"), ("openvino", "openvino"), (ROUNDED, "openvino")):
        with pytest.raises(Unavailable, match=f"pip install {packages}"):
            choose_runtime(name, decoder_part(decoder_of(), w_of(SMALL)))
    _, chosen = choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))
    assert set(chosen.left_out) == {"onnx", "openvino", ROUNDED}
    assert set(chosen.seconds) == {"eager"}


@pytest.mark.parametrize("spare", [0, 1])
def test_threads_keep_their_cores_where_they_fill_the_machine(monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    """With cores to spare, processes would all keep the same ones."""
    monkeypatch.setattr(kinds, "usable_cores", lambda: torch.get_num_threads() + spare)
    runtime = runtime_of("openvino", decoder_of(), w_of(SMALL))
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    runtime(w_of(SMALL)[:1])
    assert runtime.request.get_compiled_model().get_property("ENABLE_CPU_PINNING") == (spare == 0)
    assert before is None or os.sched_getaffinity(0) == before  # the caller's thread is not pinned


def test_openvino_repeats_no_input() -> None:
    runtime, w_BLD = runtime_of("openvino", decoder_of(), w_of(SMALL)), w_of(SMALL)[:1]
    with pytest.raises(ValueError, match=r"inputs of shape \(1, "):
        runtime(w_BLD[0])


def test_openvino_reports_nothing(tmp_path: Path) -> None:
    """Importing it as it is writes to the home folder and speaks to the network."""
    script = """
import sys, torch
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.runtimes.kinds import make_runtime
from torch_bridge.runtimes.parts import decoder_part
part = decoder_part(Student(StudentConfig(32, 16, (16, 8, 8))).for_play().eval(), torch.zeros(1, 1, 16))
make_runtime("openvino", part.network, part.probes())
assert "openvino" in sys.modules and "openvino_telemetry" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"HOME": str(tmp_path)}, check=True)
    assert not (tmp_path / "intel").exists()


def test_ctrl_c_comes_through_after_runtimes_of_openvino_went() -> None:
    """Several cores would leave the thread a stack for signals that is freed: there is one."""
    script = """
import signal, torch
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.runtimes.kinds import make_runtime
from torch_bridge.runtimes.parts import decoder_part
part = decoder_part(Student(StudentConfig(32, 16, (16, 8, 8))).for_play().eval(), torch.zeros(1, 1, 16))
first, second = (make_runtime("openvino", part.network, part.probes()) for _ in range(2))
del first
del second
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("came through")
"""
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "came through\n"), done.stderr


def test_frames_of_openvino_are_the_callers_own() -> None:
    runtime, w_NLD = runtime_of("openvino", decoder_of(), w_of(SMALL)), w_of(SMALL)
    first = runtime(w_NLD[:1])
    kept = first.clone()
    runtime(w_NLD[1:2])
    assert torch.equal(first, kept)


@pytest.mark.parametrize("name", ["eager", "onnx", "openvino"])
def test_threads_that_share_a_runtime_get_their_own_frames(name: str) -> None:
    w_NLD = w_of(SMALL)
    runtime = runtime_of(name, decoder_of(), w_NLD)
    alone = [runtime(w_LD[None]).clone() for w_LD in w_NLD]

    def draw_often(number: int) -> list[torch.Tensor]:
        return [runtime(w_NLD[number : number + 1]) for _ in range(50)]

    with ThreadPoolExecutor(len(w_NLD)) as threads:
        together = list(threads.map(draw_often, range(len(w_NLD))))
    for frames, expected in zip(together, alone, strict=True):
        assert all(torch.equal(frame, expected) for frame in frames)


@pytest.mark.parametrize(("name", "kind"), [("onnx", "OnnxRuntime"), ("openvino", "OpenVinoRuntime")])
def test_a_runtime_that_cannot_draw_is_left_out(monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(f"torch_bridge.runtimes.kinds.{kind}.__call__", fails)
    with pytest.raises(Unavailable, match=r"fails here: no such instruction\. Choose another runtime"):
        choose_runtime(name, decoder_part(decoder_of(), w_of(SMALL)))
    assert name in choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))[1].left_out


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no runtime 'fast'\. Choose one of eager, "):
        choose_runtime("fast", decoder_part(decoder_of(), w_of(SMALL)))


def test_what_draws_other_frames_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(name: str, network: Callable[[str], torch.nn.Module], w: torch.Tensor) -> Runtime:
        runtime = make_runtime("eager", network, w)
        if name == "eager":
            return runtime
        apart = 20 if name == ROUNDED else measured.TOLERANCE + 1  # rounding is judged by its PSNR: 22 dB
        return lambda w: (runtime(w).int() + apart).clamp(0, 255).to(torch.uint8)

    monkeypatch.setattr(choice, "make_runtime", wrong)
    _, chosen = choose_runtime("measure", decoder_part(decoder_of(), w_of(SMALL)))
    assert chosen.name == "eager"
    assert "dB" in chosen.left_out[ROUNDED]
    assert "up to 3 grey levels apart" in chosen.left_out["onnx"]
    with pytest.raises(ValueError, match="'onnx' has other frames: up to 3"):
        choose_runtime("onnx", decoder_part(decoder_of(), w_of(SMALL)))


def test_the_choice_is_measured_once_and_kept(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, w = decoder_of(), w_of(SMALL)
    _, first = choose_runtime("auto", decoder_part(decoder, w))
    assert (first.how, set(first.seconds) | set(first.left_out)) == ("measured", set(choice.MEASURED))
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setattr(choice, "_measure", lambda *_: pytest.fail("measured again"))
    _, second = choose_runtime("auto", decoder_part(decoder, w))
    assert second == dataclasses.replace(first, how="cached")


def test_a_kept_choice_that_fails_now_is_measured_anew(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = decoder_part(decoder_of(), w_of(SMALL))
    choose_runtime("auto", part)
    (file,) = kept.iterdir()
    stored = json.loads(file.read_text())
    stored["result"]["name"] = "openvino"  # whichever it was
    file.write_text(json.dumps(stored))

    def fails(*_: object) -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr("torch_bridge.runtimes.kinds.OpenVinoRuntime.__call__", fails)
    _, chosen = choose_runtime("auto", part)
    assert chosen.how == "measured"
    assert chosen.name != "openvino"
    assert "openvino" in chosen.left_out
    assert choose_runtime("auto", part)[1] == dataclasses.replace(chosen, how="cached")


@pytest.mark.parametrize(("above", "tried"), [(1e9, False), (0.0, True)])
@pytest.mark.usefixtures("kept")
def test_compiling_is_for_decoders_that_need_it(monkeypatch: pytest.MonkeyPatch, above: float, tried: bool) -> None:
    asked = []
    make = choice.make_runtime

    def noted(name: str, *args: object) -> object:
        asked.append(name)
        return make("eager" if name == "compile" else name, *args)

    monkeypatch.setattr(choice, "make_runtime", noted)
    monkeypatch.setattr(choice, "COMPILED_ABOVE", above)
    _, chosen = choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))
    assert ("compile" in asked, "compile" in chosen.seconds) == (tried, tried)


def test_the_choice_of_another_decoder_is_another() -> None:
    choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))
    assert choose_runtime("auto", decoder_part(decoder_of(seed=1), w_of(SMALL)))[1].how == "measured"
    assert choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL, SMALL.rows)))[1].how == "measured"
    assert choose_runtime("measure", decoder_part(decoder_of(), w_of(SMALL)))[1].how == "measured"
    assert choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))[1].how == "cached"


def test_a_runtime_that_is_new_here_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    part = decoder_part(decoder_of(), w_of(SMALL))
    with monkeypatch.context() as before:
        before.setattr(choice, "MEASURED", ("eager", "onnx"))
        choose_runtime("auto", part)
    assert choose_runtime("auto", part)[1].how == "measured"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}', "foreign", "name", "seconds"])
def test_a_damaged_file_is_measured_anew(kept: Path, damage: str) -> None:
    choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))
    (file,) = kept.iterdir()
    stored = json.loads(file.read_text())
    if damage == "foreign":
        stored["key"]["machine"] = "another"
    elif damage == "name":
        stored["result"]["name"] = "rm"
    elif damage == "seconds":
        stored["result"]["seconds"] = {"eager": "fast"}
    file.write_text(json.dumps(stored) if damage in ("foreign", "name", "seconds") else damage)
    assert choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))[1].how == "measured"
    assert choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))[1].how == "cached"


def test_a_folder_that_cannot_be_written_is_no_fault(kept: Path) -> None:
    kept.write_text("a file is in the place of the folder")
    assert choose_runtime("auto", decoder_part(decoder_of(), w_of(SMALL)))[1].how == "measured"


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GENIE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "efficient-genie"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == Path.home() / ".cache" / "efficient-genie"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("runtimes") / "world")


def test_sessions_with_each_runtime(folder: Path) -> None:
    world, codes = World.load(folder), [1, 0, 3, 3, 2]
    seen = {}
    for name in ("eager", "onnx", "openvino"):
        world.use_runtime(name)
        assert world.runtime.name == name
        world.reset(moving_squares(5), reencode_every=0)
        together = world.rollout(codes)
        world.reset(moving_squares(5), reencode_every=0)
        np.testing.assert_array_equal(together, np.stack([world.step(code) for code in codes]))
        seen[name] = together.astype(int)
        batch = world.rollout_batch(moving_squares(5)[None], None, np.array([codes]), reencode_every=0)[0]
        np.testing.assert_array_equal(batch, seen["eager"])  # whatever draws the sessions
    assert world.player.compiled_steps() == 1
    for name in ("onnx", "openvino"):
        assert abs(seen[name] - seen["eager"]).max() <= measured.TOLERANCE


def test_a_rollout_that_encodes_its_frames_is_that_of_single_steps(folder: Path) -> None:
    world, codes = World.load(folder, runtime="onnx"), [1, 0, 3, 3, 2]
    world.reset(moving_squares(5), reencode_every=2)
    together = world.rollout(codes)
    world.reset(moving_squares(5), reencode_every=2)
    np.testing.assert_array_equal(together, np.stack([world.step(code) for code in codes]))


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_snapping_goes_by_the_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    world = World.load(folder)
    player = world.session()
    player.reset(moving_squares(5), reencode_every=0)
    player.step(1)
    before = player.snapshot()
    player.snap()
    eager = player.snapshot().state.w_BLD

    world.use_runtime(name)
    monkeypatch.setattr(world.codec, "encode", lambda _: pytest.fail("encoded by PyTorch"))
    player.restore(before)
    player.snap()
    ours = player.snapshot().state.w_BLD
    np.testing.assert_allclose(ours, eager, rtol=0, atol=W_TOLERANCE)
    assert np.abs(ours - before.state.w_BLD).max() > 10 * W_TOLERANCE  # and it does move


@pytest.mark.parametrize("name", ["onnx", "openvino", "auto"])
def test_the_command_line_names_the_runtime(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = tmp_path / "film.png"
    assert main(["rollout", str(folder), "--steps", "3", "-o", str(film), "--runtime", name]) == 0
    assert film.is_file()
    assert "drawn by " in capsys.readouterr().out


def test_the_command_line_refuses_an_unknown_runtime(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", str(folder), "--steps", "3", "-o", "film.png", "--runtime", "fast"]) == 2
    assert "--runtime fast: There is no runtime 'fast'. Choose one of" in capsys.readouterr().err
