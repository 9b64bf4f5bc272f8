"""`genie play` as a process: it serves, says where, refuses what it cannot do in one line, and ends with Ctrl-C."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
import worlds
from playing import page

from app import cli
from app.commands.play import listen
from train.errors import UserError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return worlds.make_world(tmp_path_factory.mktemp("play") / "mine")


@pytest.fixture
def started(world):
    processes = []

    def start(*words):
        command = [sys.executable, "-m", "app.cli", "play", str(world), "--no-browser", "--port", "0", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        processes.append(process)
        said = ""
        while "playing at" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        return process, said

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_serves_a_page_and_a_game_until_ctrl_c(started):
    process, said = started()
    address = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
    assert "mine: 32x32" in said
    with urllib.request.urlopen(address[0], timeout=20) as answer:
        assert b"<canvas" in answer.read()

    async def play():
        async with page(int(address[1])) as talking:
            assert talking.texts[0]["world"]["name"] == "mine"
            await talking.begin(actions=[[1, 1000]])
            await talking.hear(lambda: talking.frames[-1].step > 2)
            process.send_signal(signal.SIGINT)
            return await asyncio.to_thread(process.wait, 20)

    assert asyncio.run(play()) == 130


def test_another_address_has_a_token(started):
    eager = ("--runtime", "eager", "--weights", "float32")  # nothing is measured
    _, said = started("--host", "0.0.0.0", *eager)
    assert re.search(r"http://\S+:\d+/\?token=[\w-]{24}", said)
    _, said = started("--host", "0.0.0.0", "--token", "my word/8", *eager)
    assert "/?token=my%20word/8" in said


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--sessions", "0"], "--sessions 0"),
        (["--idle", "0"], "--idle 0"),
        (["--idle", "nan"], "--idle nan"),
        (["--token", "short"], "--token"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--port", "99999"], "99999"),
        (["--device", "abacus"], "abacus"),
        (["--port", "many"], "many"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(world, words, fault, capsys):
    assert cli.main(["play", str(world), "--no-browser", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert fault in told
    assert "\n" not in told


def test_a_port_is_taken_before_the_world_is_loaded():
    with listen("127.0.0.1", 0) as first, pytest.raises(UserError, match="cannot be used"):
        listen("127.0.0.1", first.getsockname()[1])


def test_a_taken_port_and_a_missing_world(world, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["play", str(world), "--no-browser", "--port", str(port)]) == 2
        assert f"port {port}" in capsys.readouterr().err
    assert cli.main(["play", str(tmp_path), "--no-browser"]) == 2
    assert str(tmp_path) in capsys.readouterr().err
