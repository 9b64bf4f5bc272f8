"""Files as the published programs write them, of small networks with made-up weights."""

import argparse
import collections
import io
import os
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torch_bridge.discriminator import Discriminator, DiscriminatorConfig
from torch_bridge.mobile_stylegan import Student, StudentConfig
from torch_bridge.stylegan2 import Generator, GeneratorConfig

GENERATOR = GeneratorConfig(32, 16, 2, 2.0, 24)
CRITIC = DiscriminatorConfig(32, 2.0, 20)
STUDENT = StudentConfig(32, 16, (16, 12, 8))


def networks(seed: int = 0) -> tuple[Generator, Discriminator, Student]:
    """Generator, discriminator and student with every parameter drawn, biases and noise strengths too."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        made = Generator(GENERATOR), Discriminator(CRITIC), Student(STUDENT)
        for parameter in (p for network in made for p in network.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def mobile_teacher(generator: Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mapping and synthesis network of MobileStyleGAN's converter: its names, no noise images."""
    mapping, synthesis = {}, {"upsample.kernel": torch.ones(4, 4)}
    for name, value in generator.state_dict().items():
        head, _, rest = name.partition(".")
        number, _, end = rest.partition(".")
        if head == "style":
            mapping[f"layers.{rest}"] = value
        elif head == "convs":
            synthesis[f"layers.{int(number) // 2}.{('conv1', 'conv2')[int(number) % 2]}.{end}"] = value
        elif head == "to_rgbs":
            synthesis[f"layers.{number}.to_rgb.{end}"] = value
        elif head != "noises":
            synthesis[name] = value
    return mapping, synthesis


def teacher_files(folder: Path, generator: Generator) -> tuple[Path, Path]:
    """The converter's two files."""
    mapping, synthesis = mobile_teacher(generator)
    params = {"size": 32, "style_dim": 16, "channels": [24, 24, 24, 24]}
    torch.save({"params": {"style_dim": 16, "n_layers": 2}, "ckpt": mapping}, folder / "mnet.ckpt")
    torch.save({"params": params, "ckpt": synthesis}, folder / "snet.ckpt")
    return folder / "mnet.ckpt", folder / "snet.ckpt"


def lightning_state(generator: Generator, critic: Discriminator | None, student: Student) -> dict[str, Tensor]:
    """The state_dict of a distillation: student, teacher, losses, and what else there is."""
    mapping, synthesis = mobile_teacher(generator)
    parts: dict[str, dict[str, Tensor]] = {
        "student": student.state_dict() | {"device_info": torch.tensor(1), "idwt.g0_col": torch.zeros(1, 1, 2, 1)},
        "mapping_net": mapping,
        "synthesis_net": synthesis,
        "loss.perceptual_loss.vgg": {"weight": torch.zeros(3)},
        "inception": {"fc.weight": torch.zeros(2)},
    }
    if critic is not None:
        parts["loss.gan_loss.m"] = critic.state_dict()
    state = {f"{prefix}.{name}": value for prefix, tensors in parts.items() for name, value in tensors.items()}
    return state | {"style_mean": torch.zeros(1, 8, 16), "device_info": torch.tensor(1)}


class Callback(dict):
    """Stands for a callback that Lightning leaves in its files; loading must not make one."""

    created = 0

    def __new__(cls, *args: Any, **kwargs: Any) -> "Callback":
        cls.created += 1
        return super().__new__(cls, *args, **kwargs)


@contextmanager
def _lightning_installed() -> Iterator[None]:
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.Callback = Callback
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", module.__name__]
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names, module))
    Callback.__module__ = module.__name__
    yield
    Callback.__module__ = __name__
    for name, old in before.items():
        if old is None:
            del sys.modules[name]
        else:
            sys.modules[name] = old


def save_lightning(path: Path, state: dict[str, Tensor], *, legacy: bool = False) -> Path:
    """A Lightning file with its callbacks and hyperparameters."""
    content = {"epoch": 3, "state_dict": collections.OrderedDict(state), "hparams": argparse.Namespace(lr=1)}
    with _lightning_installed():
        content |= {"callbacks": {Callback: {"best": 1.0}}, "hyper_parameters": Callback(lr=1)}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


class Hostile:
    """Runs a command when it is unpickled by anyone who trusts it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def hostile_files(folder: Path, module: nn.Module) -> dict[Path, Path]:
    """A hostile file in every form, each with the file that would be there if its code had run."""
    made = {}
    for name in ("zip", "legacy", "pickle2", "pickle4"):
        path, marker = folder / f"{name}.pt", folder / f"{name}.ran"
        content = {"g_ema": module.state_dict(), "args": Hostile(marker)}
        if name.startswith("pickle"):
            stream = io.BytesIO()
            pickle.dump({"args": Hostile(marker)}, stream, protocol=int(name[-1]))
            path.write_bytes(stream.getvalue())
        else:
            torch.save(content, path, _use_new_zipfile_serialization=name == "zip")
        made[path] = marker
    return made
