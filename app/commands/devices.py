"""Show what each framework sees and which part would run where.

examples:
  genie devices
  genie devices --device cpu
"""

import argparse

from train.errors import UserError

NAME = "devices"
HELP = "show what would run where"

DEVICES = ("auto", "cpu", "cuda", "mps")
TORCH_PARTS = ("teacher", "student", "encoder", "drift", "latents", "play: encoder and decoder")
JAX_PARTS = ("actions", "dynamics", "play: dynamics")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """The option that every command with a model has."""
    parser.add_argument(
        "--device", metavar="|".join(DEVICES), default="auto", help="where models run (default: the best there is)"
    )


def chosen(wanted: str) -> tuple[str, str]:
    """The device kinds of PyTorch and of JAX for a `--device`; makes the latter JAX's default.

    Raises:
        UserError: there is no such kind, or one of the frameworks sees none of it.
    """
    if wanted not in DEVICES:
        raise UserError(f"--device {wanted}", "is no kind of device", f"choose one of {', '.join(DEVICES)}")
    from genie_jax.devices import use_device
    from torch_bridge.devices import torch_device

    try:
        return torch_device(wanted).type, use_device(wanted).platform.replace("gpu", "cuda")
    except ValueError as error:
        fault, _, remedy = str(error).partition(": ")
        raise UserError(f"--device {wanted}", fault, remedy) from error


def table(torch_kind: str, jax_kind: str) -> list[str]:
    """Lines that say which part runs where."""
    rows = [("part", "framework", "device"), ("prepare", "PyAV", "cpu")]
    rows += [(part, "PyTorch", torch_kind) for part in TORCH_PARTS]
    rows += [(part, "JAX", jax_kind) for part in JAX_PARTS]
    return [f"{part:<28}{framework:<12}{device}" for part, framework, device in rows]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_device_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is seen and the table."""
    torch_kind, jax_kind = chosen(args.device)
    import jax

    import genie_jax.devices
    import torch_bridge.devices

    for kind in torch_bridge.devices.present():
        print(f"PyTorch sees {kind}: {torch_bridge.devices.describe(kind)}")
    for kind in genie_jax.devices.present():
        names = ", ".join(str(device.device_kind) for device in jax.devices(kind))
        print(f"JAX sees {kind}: {names}")
    print()
    print("\n".join(table(torch_kind, jax_kind)))
    return 0
