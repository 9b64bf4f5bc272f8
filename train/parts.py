"""The stages of a run, each built from the config and from what the stages before it left in their folders."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import jax
import numpy as np
import torch

from torch_bridge.discriminator import Discriminator
from torch_bridge.encoder import Encoder
from torch_bridge.mobile_stylegan import Student
from torch_bridge.perceptual import LpipsUnavailable
from torch_bridge.stylegan2 import Generator
from train.action_labels import SETTING as TRUE_ACTIONS
from train.action_labels import Labels, check_labels, choose_labels, majority_actions
from train.actions import ActionsStage, infer_corpus_codes, load_action_model
from train.code_names import names_by_labels, write_learned_names
from train.code_prediction import PairCodes
from train.config import Config
from train.corpus import Corpus
from train.drift import DriftStage
from train.dynamics import DynamicsStage, Latents
from train.encoder import EncoderStage
from train.errors import UserError
from train.evaluate.truth import TrueActions, load_actions
from train.imported import Imported, read_imports
from train.ingest.store import FrameStore
from train.latents import encode_corpus
from train.progress import LINE_SECONDS, Log
from train.run import Run, read_result, write_result
from train.student import StudentStage
from train.teacher import TeacherStage
from train.torch_stage import Placement, load_arrays, seeded


class Parts:
    """Builds stages; the corpus is opened when the first of them needs it.

    Args:
        run: where results are.
        config: of all stages.
        frames: folder of frames.
        torch_device: where the PyTorch stages run.
        jax_device: where the JAX stages run.
    """

    def __init__(
        self, run: Run, config: Config, frames: Path, torch_device: torch.device, jax_device: jax.Device
    ) -> None:
        self.run, self.config, self.frames = run, config, frames
        self.torch_device, self.jax_device = torch_device, jax_device

    @cached_property
    def store(self) -> FrameStore:
        """The frames."""
        store = FrameStore(self.frames)
        if store.size != self.config.size:
            fault = f"its frames are {store.size} pixels high, the world's are to be {self.config.size}"
            raise UserError(self.frames, fault, f"give --size {store.size}, or prepare with --size {self.config.size}")
        return store

    @cached_property
    def corpus(self) -> Corpus:
        """The frames as training data."""
        config = self.config
        return Corpus(self.store, seed=config.seed, holdout=config.holdout, memory_limit_mb=config.memory_limit_mb)

    def result(self, stage: str, stem: str) -> dict[str, np.ndarray]:
        """Tensors that a finished stage left."""
        return read_result(self.run.folder(stage), stem)

    @cached_property
    def imports(self) -> dict[str, Imported]:
        """What was imported, by stage."""
        return read_imports(self.run.settings, self.run.path / "run.json")

    def _discriminator(self, stage: str) -> Discriminator:
        if stage in self.imports and not self.imports[stage].discriminator_trained:
            return self._new_discriminator()
        return load_arrays(Discriminator(self.config.teacher.discriminator), self.result(stage, "discriminator"))

    def _new_discriminator(self) -> Discriminator:
        shape = self.config.teacher.discriminator
        return seeded(self.config.seed, "discriminator", lambda: Discriminator(shape))

    def _student(self, stage: str) -> Student:
        return load_arrays(Student(self.config.student.model), self.result(stage, "student"))

    def _encoder(self, stage: str) -> Encoder:
        untrained = Encoder(replace(self.config.encoder.model, pretrained=False))
        return load_arrays(untrained, self.result(stage, "encoder"))

    def teacher(self) -> TeacherStage:
        """z -> w -> frame."""
        return TeacherStage(self.config.teacher, self.corpus, seed=self.config.seed, device=self.torch_device)

    def student(self) -> StudentStage:
        """w -> frame, from the teacher."""
        generator = load_arrays(Generator(self.config.teacher.generator), self.result("teacher", "generator"))
        with _lpips_is_there("student"):
            return StudentStage(
                self.config.student,
                generator,
                self._discriminator("teacher"),
                seed=self.config.seed,
                device=self.torch_device,
            )

    def encoder(self) -> EncoderStage:
        """frame -> w, through the student; without a teacher, with a new student and a new discriminator."""
        config = self.config.encoder
        if self.config.recipe == "joint":
            student = seeded(self.config.seed, "student", lambda: Student(self.config.student.model))
            discriminator = self._new_discriminator()
            w = {"mean": np.zeros(self.config.style_dim, np.float32), "std": np.ones(self.config.style_dim, np.float32)}
            if config.perceptual_kind == "auto":  # features of a network that nothing has trained are no distance
                config = replace(config, perceptual_kind="lpips")
        else:
            student, discriminator = self._student("student"), self._discriminator("student")
            w = self.result("student", "w")
        with _lpips_is_there("encoder"):
            return EncoderStage(
                config,
                self.corpus,
                student,
                discriminator,
                w["mean"],
                w["std"],
                codes=self._pair_codes(self.config.encoder.codes),
                seed=self.config.seed,
                device=self.torch_device,
            )

    def drift(self) -> DriftStage:
        """The encoder tuned on generated frames."""
        return DriftStage(
            self.config.drift,
            self.corpus,
            self._encoder("encoder"),
            self._student("encoder"),
            codes=self._pair_codes(self.config.drift.codes),
            seed=self.config.seed,
            device=self.torch_device,
        )

    def _pair_codes(self, weight: float) -> PairCodes | None:
        """The codes of the corpus, for a stage that predicts them with that weight."""
        return PairCodes(self.result("actions", "codes")["codes"], self.config.codes) if weight > 0 else None

    def encode_latents(self, folder: Path, log: Log) -> None:
        """w of every frame, by the tuned encoder."""
        settings = self.config.encoder
        place = Placement(self.torch_device, settings.precision, settings.channels_last)
        encode_corpus(
            self._encoder("drift"),
            self.corpus,
            len(self.store),
            folder,
            place=place,
            batch=self.config.latents_batch,
            features=self.config.actions.model.reads_features,
            progress=_told(log),
        )

    def latents(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """w of every frame (memory-mapped), mean and deviation over the training frames."""
        folder = self.run.folder("latents")
        stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
        mean_LD, std_LD = (np.array(stats[name], np.float32) for name in ("mean", "std"))
        return np.load(folder / "w.npy", mmap_mode="r"), mean_LD, std_LD

    def _w_of_actions(self) -> np.ndarray | None:
        """w as the action model reads it, normalised as the dynamics normalise it; None for one that reads frames."""
        if self.config.actions.model.form != "mlp":
            return None
        w_FLD, mean_LD, std_LD = self.latents()
        least = self.config.dynamics.std_floor * np.sqrt(np.mean(np.square(std_LD)))
        return (np.asarray(w_FLD) - mean_LD) / np.maximum(std_LD, least).astype(np.float32)

    def _features_of_actions(self) -> np.ndarray | None:
        """The encoder's feature maps (memory-mapped); None for an action model that reads none."""
        if not self.config.actions.model.reads_features:
            return None
        return np.load(self.run.folder("latents") / "features.npy", mmap_mode="r")

    @cached_property
    def true_actions(self) -> TrueActions | None:
        """The true actions of the video, where a file of them was given."""
        setting = self.run.settings.get(TRUE_ACTIONS)
        return None if setting is None else load_actions(setting["path"])

    def check_labels(self) -> None:
        """Raise UserError where the true actions cannot be those of the frames."""
        if self.true_actions is not None:
            check_labels(self.store, self.true_actions)

    @cached_property
    def labels(self) -> Labels | None:
        """The true actions of some training transitions."""
        truth = self.true_actions
        return None if truth is None else choose_labels(self.corpus, truth, self.config.actions.labels)

    def actions(self) -> ActionsStage:
        """(frame, frame) -> code."""
        return ActionsStage(
            self.config.actions,
            self.corpus,
            w_FLD=self._w_of_actions(),
            features_FGGC=self._features_of_actions(),
            labels=self.labels,
            seed=self.config.seed,
            device=self.jax_device,
        )

    def infer_codes(self) -> None:
        """The code of every frame to the next and, by labels, the codes' names, beside the action model's weights."""
        model = load_action_model(self.result("actions", "actions"), self.config.actions.model)
        w_FLD, features_FGGC = self._w_of_actions(), self._features_of_actions()
        codes_F = infer_corpus_codes(*model, self.corpus, w_FLD=w_FLD, features_FGGC=features_FGGC)
        write_result(self.run.folder("actions"), {"codes": {"codes": codes_F}})
        if self.labels is not None:
            names = names_by_labels(majority_actions(codes_F, self.labels), self.labels.names, self.config.codes)
            write_learned_names(self.run.folder("actions"), names)

    def dynamics(self) -> DynamicsStage:
        """(w, code) -> next w."""
        w_FLD, mean_LD, std_LD = self.latents()
        codes_F = self.result("actions", "codes")["codes"]
        shots = self.corpus.train_shots, self.corpus.heldout_shots
        latents = Latents(w_FLD, codes_F, *shots, mean_LD, std_LD)
        config = self.config.dynamics
        seed = self.config.seed if config.seed is None else config.seed
        return DynamicsStage(config, latents, seed=seed, device=self.jax_device)


@contextmanager
def _lpips_is_there(stage: str) -> Iterator[None]:
    """Tells in the user's words that the distance which the stage is to use cannot be had."""
    try:
        yield
    except LpipsUnavailable as error:
        fault = "the weights of LPIPS are neither on this machine nor to be downloaded"
        remedy = f"connect to a network once, or give --{stage}.perceptual 0"
        raise UserError(f"--{stage}.perceptual_kind lpips", fault, remedy) from error


def _told(log: Log) -> Callable[[int, int], None]:
    """A progress callback that tells a line now and then."""
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            log(f"latents {done / total:4.0%}: {done} of {total} frames")

    return tell
