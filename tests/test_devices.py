"""Device choice over simulated device lists, and what is really here."""

import subprocess
import sys

import pytest

import genie_jax.devices
import torch_bridge.devices
from app.cli import main

BOTH = (torch_bridge.devices, genie_jax.devices)


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize(
    ("wanted", "present", "choice"),
    [
        ("auto", ["cpu"], "cpu"),
        ("auto", ["cpu", "mps"], "mps"),
        ("auto", ["cpu", "mps", "cuda"], "cuda"),
        ("cpu", ["cuda", "cpu"], "cpu"),
        ("mps", ["mps", "cpu"], "mps"),
        ("cuda", ["cuda", "cpu"], "cuda"),
    ],
)
def test_choice(framework: object, wanted: str, present: list[str], choice: str) -> None:
    assert framework.choose(wanted, present) == choice


@pytest.mark.parametrize("framework", BOTH)
@pytest.mark.parametrize(("wanted", "present"), [("cuda", ["mps", "cpu"]), ("mps", ["cpu"])])
def test_a_missing_device_is_told_with_those_that_are_there(framework: object, wanted: str, present: list[str]) -> None:
    with pytest.raises(ValueError, match=f"sees no {wanted} device here, it sees {', '.join(present)}"):
        framework.choose(wanted, present)


def test_the_processor_is_always_there() -> None:
    assert torch_bridge.devices.present()[-1] == "cpu"
    assert torch_bridge.devices.torch_device("cpu").type == "cpu"
    assert "cpu" in genie_jax.devices.present()
    assert genie_jax.devices.use_device("cpu").platform == "cpu"


def test_a_platform_that_is_shut_out_by_the_environment() -> None:
    code = "from genie_jax.devices import choose, present; choose('auto', present())"
    env = {"JAX_PLATFORMS": "tpu", "PATH": "", "HOME": "/nonexistent"}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "ValueError: JAX sees no device with JAX_PLATFORMS='tpu'" in ended.stderr


def test_the_table_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    for part in ("teacher", "student", "encoder", "drift", "latents", "actions", "dynamics", "play"):
        assert part in text
    assert "PyTorch sees cpu" in text
    assert "JAX sees cpu" in text
