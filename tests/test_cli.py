"""The command line's manners: exit codes, one line, the nearest command, help without heavy imports."""

import argparse
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from app import cli
from app.cli import main
from train.errors import UserError


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A command whose doing a test sets."""

    def configure(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--count", type=int, required=True)

    module = SimpleNamespace(NAME="probe", HELP="a probe", __doc__="A probe.", configure=configure, run=lambda _: 0)
    monkeypatch.setattr(cli, "commands", lambda: {"probe": module})
    return module


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "genie train my_video.mp4" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["devices", "--help"]])
def test_help_is_success_and_has_examples(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert "examples:" in capsys.readouterr().out


def test_help_imports_no_framework() -> None:
    code = "import sys; from app.cli import main; main(['--help']); "
    code += "print([name for name in ('torch', 'jax', 'av', 'cv2', 'numpy') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devcies"]) == 2
    assert "did you mean devices?" in line_of(capsys)


@pytest.mark.parametrize(
    "words", [["probe"], ["probe", "--count", "x"], ["probe", "--count", "1", "more"], ["probe", "--count", "1", "--x"]]
)
def test_what_argparse_finds_is_one_line(
    words: list[str], probe: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe.NAME == "probe"
    assert main(words) == 2
    assert "genie probe" in line_of(capsys)


def test_a_user_error_is_one_line_and_its_traceback_is_there_on_demand(
    probe: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise UserError("clip.mp4", f"holds {args.count}\nframes", "give a longer one")

    probe.run = run
    assert main(["probe", "--count", "3"]) == 2
    assert line_of(capsys) == "genie: clip.mp4: holds 3 frames. give a longer one"
    assert main(["probe", "--count", "3", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_with_130(
    number: signal.Signals, probe: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        signal.raise_signal(number)
        return args.count

    probe.run = run
    # A shell starts what runs in the background with Ctrl-C ignored: tests may run there too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["probe", "--count", "3"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert line_of(capsys) == "genie: interrupted"


def test_the_exit_code_is_the_commands(probe: SimpleNamespace) -> None:
    probe.run = lambda args: args.count
    assert main(["probe", "--count", "3"]) == 3


def test_an_option_without_a_command_is_not_taken_for_a_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--hlep"]) == 2
    assert "--hlep: is not understood" in line_of(capsys)


def test_a_file_in_the_place_of_a_folder_is_told_in_one_line(
    tmp_path: Path, probe: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    probe.run = lambda _: (tmp_path / "taken").mkdir()
    assert main(["probe", "--count", "1"]) == 2
    assert line_of(capsys).startswith(f"genie: {tmp_path / 'taken'}: File exists.")


def test_version_and_a_number_of_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["genie", version("efficient-genie")]
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "0"]) == 2
    assert "--workers 0: is no number of processes" in capsys.readouterr().err
