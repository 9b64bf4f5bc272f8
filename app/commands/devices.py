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


def check_kind(wanted: str) -> None:
    """Raises UserError where `--device` names no kind of device."""
    if wanted not in DEVICES:
        raise UserError(f"--device {wanted}", "is no kind of device", f"choose one of {', '.join(DEVICES)}")


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
    check_kind(args.device)
    import jax

    import genie_jax.devices
    import torch_bridge.devices
    from train.devices import choose_devices

    torch_device, jax_device = choose_devices(args.device)

    for kind in torch_bridge.devices.present():
        print(f"PyTorch sees {kind}: {torch_bridge.devices.describe(kind)}")
    for kind in genie_jax.devices.present():
        names = ", ".join(str(device.device_kind) for device in jax.devices(kind))
        print(f"JAX sees {kind}: {names}")
    print()
    print("\n".join(table(torch_device.type, jax_device.platform.replace("gpu", "cuda"))))
    return 0
