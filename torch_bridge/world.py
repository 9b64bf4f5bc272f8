"""A world that can be played: frames in, then a frame for every code.

The state lives in w and in JAX, the pictures in PyTorch: encode, step and decode meet at the bridge (`exchange`), by
reference where both are on one device. `World` holds what all players share; a `Session` (a player's own state) keeps
nothing but the dynamics' memory, so a step costs the same at frame 10 and at frame 100,000.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import jax
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

import genie_jax.devices
from genie_jax.nn import Params
from genie_jax.trees import unflatten_tree
from torch_bridge.action_reader import ActionReader
from torch_bridge.bundle import Prompts, Tensors, read_world, write_world
from torch_bridge.devices import torch_device
from torch_bridge.exchange import to_argument, to_jax, to_torch
from torch_bridge.frame_codec import FrameCodec, as_tensor
from torch_bridge.latent_player import Knobs, LatentPlayer, LatentState
from torch_bridge.manifest import Code, WorldManifest
from torch_bridge.notebook import world_html
from torch_bridge.part_agreement import check_agreement
from torch_bridge.play_arguments import Codes, Frames, check_codes, check_frames
from torch_bridge.play_networks import choose_networks, choose_step
from torch_bridge.play_settings import check_knobs, check_steps, seeds_of
from torch_bridge.rollout_batches import batch_steps
from torch_bridge.runtimes import Chosen
from torch_bridge.session import Session
from torch_bridge.world_costs import gflop_of, parameters_of


class World:
    """An encoder, a decoder, an action model and a dynamics that belong together.

    Frames are uint8 RGB, channels last; those of another size are cut to the middle square and resized. w is float32
    (T, L, D). `codes[t]` leads from frame t to frame t+1. All methods raise ValueError, in plain words, for arrays of
    the wrong shape or type and for codes out of range.

    Args:
        manifest, tensors, prompts: as `read_world` gives them.
        device: "auto", "cpu", "cuda" or "mps".
        runtime, weights: what draws the frames of a session, and how the dynamics' weights are read in it: see
            `use_runtime`, `use_weights`. Batches are always "eager" and "float32": no evaluation depends on these.

    Attributes:
        networks, latent_step: what `advance` computes with.
        runtime, encoding, weights: the choice of each, and why.

    Raises:
        ValueError: a part's config or tensors do not fit, or there is no such device or runtime.
    """

    def __init__(
        self,
        manifest: WorldManifest,
        tensors: Tensors,
        prompts: Prompts,
        *,
        device: str = "auto",
        runtime: str = "eager",
        weights: str = "float32",
    ) -> None:
        self.config, self.prompts = manifest, prompts
        self._tensors = tensors
        self.jax_device = genie_jax.devices.beside(device)
        self.codec = FrameCodec.from_tensors(
            (manifest.encoder, tensors["encoder"]), (manifest.student, tensors["decoder"]), torch_device(device)
        )
        with jax.default_device(self.jax_device):
            self.player = LatentPlayer.from_tensors(manifest.dynamics, tensors["dynamics"], self.jax_device)
            self.actions = ActionReader.from_tensors(manifest.actions, tensors["actions"], self.jax_device)
        check_agreement(manifest, self.codec.encoder.config, self.codec.size, self.player.model.config, self.actions)
        codes = np.arange(len(manifest.codes), dtype=np.int32)
        self._code_arrays = [jax.device_put(codes[k : k + 1], self.jax_device) for k in codes]
        self.use_runtime(runtime)
        self.use_weights(weights)
        self._session = Session(self)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: str = "auto", runtime: str = "eager", weights: str = "float32"
    ) -> World:
        """The world of a folder, or of the run in a folder.

        Raises:
            ValueError: names the file that is missing, damaged or newer than this program, and what to do.
        """
        return cls(*read_world(path), device=device, runtime=runtime, weights=weights)

    def use_runtime(self, name: str) -> None:
        """What draws the frames of all sessions and encodes them anew from now on, each chosen for itself.

        Args:
            name: "eager", "onnx", "openvino", "openvino-int8", "compile"; "auto" for the fastest, measured
                once on this machine for this world and kept (`runtimes.cache`); "measure" to measure anew.

        Raises:
            ValueError: there is no such runtime, this machine cannot run it, or its frames, or those of the w that it
                finds, are not those of "eager" (for "openvino-int8": not like them).
        """
        self.networks = choose_networks(name, self.codec, self.player, self.prompts)

    def use_weights(self, name: str) -> None:
        """In what precision the steps of all sessions read the dynamics' weights from now on.

        Args:
            name: "float32", "float16"; "auto" and "measure" as in `use_runtime`.

        Raises:
            ValueError: there is no such form, it is none for this device, or its frames are not those of "float32".
        """
        self.latent_step, self.weights = choose_step(name, self.codec, self.player, self.knobs())

    @property
    def runtime(self) -> Chosen:
        """What draws the frames of sessions."""
        return self.networks.drawing

    @property
    def encoding(self) -> Chosen:
        """What encodes them anew."""
        return self.networks.encoding

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the world as a folder, in place of the world that is there, if any."""
        write_world(path, self.config, self._tensors, self.prompts)

    @property
    def codes(self) -> tuple[Code, ...]:
        """The latent actions, in the order of their numbers."""
        return self.config.codes

    @property
    def size(self) -> int:
        """Height and width of a frame in pixels."""
        return self.config.size

    @property
    def fps(self) -> float:
        """Frames a second of the videos that the world was learned from."""
        return self.config.fps

    def action_params(self) -> Params:
        """Parameters of the action model, with those of its decoder where the world was packed with them.

        Play needs the encoder alone, which is what `actions.params` holds.
        """
        model = self.actions.model
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        prefix = "params/"
        named = {n.removeprefix(prefix): a for n, a in self._tensors["actions"].items() if n.startswith(prefix)}
        branches = {name.partition("/")[0] for name in named}
        return unflatten_tree(named, {b: shapes[b] for b in branches & set(shapes)}, what="the action model")

    def _repr_html_(self) -> str:
        """What a notebook shows: a film strip of each action."""
        return world_html(self)

    def session(self) -> Session:
        """A player of its own in this world, beside all others."""
        return Session(self)

    def reset(self, frames: Frames, codes_Tm1: Codes | None = None, **settings: float) -> None:
        """Start from a clip: see `Session.reset`."""
        self._session.reset(frames, codes_Tm1, **settings)

    def step(self, code: int) -> UInt8[np.ndarray, "H W C"]:
        """Take a code, get the next frame: see `Session.step`."""
        return self._session.step(code)

    def rollout(self, codes: Codes) -> Frames:
        """The frames of several steps."""
        return self._session.rollout(codes)

    def encode(self, frames: Frames) -> Float[np.ndarray, "T L D"]:
        """w of each frame."""
        return self.codec.encode(as_tensor(check_frames(frames))).cpu().numpy()

    def decode(self, w: Float[np.ndarray, "T L D"]) -> Frames:
        """The frame of each w."""
        w = np.asarray(w, np.float32)
        if w.ndim != 3 or w.shape[1:] != (self.config.rows, self.config.style_dim) or not len(w):
            raise ValueError(f"w must be (T, {self.config.rows}, {self.config.style_dim}), not {w.shape}.")
        return self.codec.decode(as_tensor(w)).cpu().numpy()

    def infer_actions(self, frames: Frames) -> Int[np.ndarray, " Tm1"]:
        """The code of each pair of consecutive frames."""
        frames = check_frames(frames)
        if self.actions.reads_frames:
            maps = self.codec.features(as_tensor(frames)).cpu().numpy() if self.actions.reads_features else None
            return self.actions.infer(self.codec.resize(as_tensor(frames)).cpu().numpy(), maps)
        mean_LD, std_LD = np.asarray(self.player.w_mean_LD), np.asarray(self.player.w_std_LD)
        return self.actions.infer((self.encode(frames) - mean_LD) / std_LD)

    def play_with(self, *, reencode_every: int | None = None, **knobs: float | None) -> None:
        """Settings for all players of this object from their next `reset` on; what is left out stays as it was.

        Raises:
            ValueError: see `knobs` and `reencode_every`.
        """
        self.knobs(**knobs)
        self.reencode_every(reencode_every)
        given = {**knobs, "reencode_every": reencode_every}
        self.config = dataclasses.replace(self.config, **{n: value for n, value in given.items() if value is not None})

    def knobs(
        self, *, noise_level: float | None = None, clamp: float | None = None, temperature: float | None = None
    ) -> Knobs:
        """Settings of a step; what is left out is as the manifest says.

        Args:
            noise_level: context-noise level told to the dynamics, 0 up to the largest of its training.
            clamp: standard deviations of the corpus beyond which a generated w is cut off; inf for never.
            temperature: factor of the noise that dynamics with a flow head draw from: 1 as learned, 0 without chance.

        Raises:
            ValueError: out of range, a level for dynamics that were trained without, a temperature for dynamics that
                draw nothing.
        """
        settings = {"noise_level": noise_level, "clamp": clamp, "temperature": temperature}
        return jax.device_put(check_knobs(self.config, self.player.model.config, **settings), self.jax_device)

    def reencode_every(self, steps: int | None = None) -> int:
        """Steps after which the generated w is replaced by that of its decoded frame, 0 for never.

        What the encoder makes of a frame is a w of real frames, so the rollout is drawn back to where the decoder
        draws well. Costs a pass of the encoder.

        Args:
            steps: None for what the manifest says.

        Raises:
            ValueError: negative.
        """
        return check_steps(self.config, steps)

    def start(
        self,
        frames_BTHWC: np.ndarray,
        codes_BTm1: Codes | None,
        knobs: Knobs,
        *,
        seed: int = 0,
        numbers_B: np.ndarray | None = None,
    ) -> LatentState:
        """The state of B rollouts after their prompts, of which the last `window` frames count.

        Args:
            frames_BTHWC: T >= 1 frames for each.
            codes_BTm1: codes between them; None to infer them.
            knobs: see `knobs`.
            seed: of what is drawn; rollout number i has the seed `seed + i`.
            numbers_B: these numbers; None for 0 to B - 1.
        """
        if np.ndim(frames_BTHWC) != 5:
            raise ValueError(f"Prompts must be (B, T, H, W, 3), not {np.shape(frames_BTHWC)}.")
        batch, length = np.shape(frames_BTHWC)[:2]
        recent = np.asarray(frames_BTHWC)[:, -self.config.window :]
        flat = check_frames(recent.reshape(-1, *recent.shape[2:]))
        kept = recent.shape[1] - 1
        if codes_BTm1 is None:
            codes = np.stack([self.infer_actions(frames) for frames in recent])
        else:
            codes = self.check_codes(codes_BTm1, batch, length - 1)[:, length - 1 - kept :]
        w_BTLD = self.codec.encode(as_tensor(flat)).unflatten(0, (batch, kept + 1))
        w_TBLD = [to_jax(w_BLD, device=self.jax_device) for w_BLD in w_BTLD.unbind(1)]
        seeds_B = seeds_of(seed, np.arange(batch) if numbers_B is None else numbers_B)
        seeds_B, *codes_T = jax.device_put([seeds_B, *codes.T], self.jax_device)
        return self.player.start(w_TBLD, codes_T, knobs, seeds_B)

    def advance(
        self, state: LatentState, code: int, knobs: Knobs
    ) -> tuple[LatentState, UInt8[torch.Tensor, "1 H W C"]]:
        """One step of one rollout: the state after it (the given one is used up) and the frame.

        The frame is on the codec's device, where it may still be computed: the next step can be queued before it is
        fetched.
        """
        state, w_BLD = self.latent_step(state, self._code_arrays[code], knobs)
        return state, self.networks.draw(to_torch(w_BLD, device=self.codec.device))

    def begin_encoding(self, frame_BHWC: UInt8[torch.Tensor, "1 H W C"]) -> Float[torch.Tensor, "1 K"]:
        """The first half of encoding a frame anew (see `reencode_every`), for `finish_encoding`."""
        first, _ = self.networks.encode.stages
        return first(frame_BHWC)

    def finish_encoding(self, state: LatentState, begun_BK: Float[torch.Tensor, "1 K"]) -> LatentState:
        """The state with the w of its newest frame as it looks, which `begin_encoding` was given."""
        _, second = self.networks.encode.stages
        return self._with_w(state, second(begun_BK))

    def reencoded(self, state: LatentState, frames_BHWC: UInt8[torch.Tensor, "B H W C"]) -> LatentState:
        """The state of B rollouts with the w of their newest frames as they look, by the codec."""
        return self._with_w(state, self.codec.encode(frames_BHWC))

    def snapped(self, state: LatentState) -> LatentState:
        """The state of one rollout with the w that the encoder finds in the frame of the newest w."""
        w_BLD = self.player.denormalise(state.w_BLD)
        frame_BHWC = self.networks.draw(to_torch(w_BLD, device=self.codec.device))
        return self.finish_encoding(state, self.begin_encoding(frame_BHWC))

    def _with_w(self, state: LatentState, w_BLD: torch.Tensor) -> LatentState:
        return state._replace(w_BLD=self.player.normalise(to_argument(w_BLD, self.jax_device)))

    def rollout_batch(
        self,
        frames_BTHWC: np.ndarray,
        codes_BTm1: Codes | None,
        codes_BS: Codes,
        *,
        steps: Sequence[int] | None = None,
        **settings: float,
    ) -> UInt8[np.ndarray, "B S H W C"]:
        """Rollouts of S codes from B prompts, many at a time.

        Equal to `reset` and `rollout` for each of them, with the same settings and the seed `seed + i` for rollout i.

        Args:
            frames_BTHWC: prompts.
            codes_BTm1: codes between their frames; None to infer them.
            codes_BS: from the prompt's last frame on.
            steps: those to draw, counted from 1; None for all. The frames of the others are left out.
            settings: see `Session.reset`.
        """
        codes_BS = self.check_codes(codes_BS, len(frames_BTHWC), None)
        wanted = range(1, codes_BS.shape[1] + 1) if steps is None else steps
        if faults := [step for step in wanted if not 1 <= step <= codes_BS.shape[1]]:
            raise ValueError(f"There is no step {faults[0]} in a rollout of {codes_BS.shape[1]} codes.")
        places = {step - 1: place for place, step in enumerate(wanted)}
        result = np.empty((len(codes_BS), len(wanted), self.size, self.size, 3), np.uint8)
        for rows, number, w_BLD in batch_steps(self, frames_BTHWC, codes_BTm1, codes_BS, **settings):
            if (place := places.get(number)) is not None:
                result[rows, place] = self.codec.decode(to_torch(w_BLD)[: len(result[rows])]).cpu().numpy()
        return result

    def rollout_latents(
        self, frames_BTHWC: np.ndarray, codes_BTm1: Codes | None, codes_BS: Codes, **settings: float
    ) -> Float[np.ndarray, "B S L D"]:
        """w of `rollout_batch`, without decoding."""
        codes_BS = self.check_codes(codes_BS, len(frames_BTHWC), None)
        result = np.empty((*codes_BS.shape, self.config.rows, self.config.style_dim), np.float32)
        for rows, number, w_BLD in batch_steps(self, frames_BTHWC, codes_BTm1, codes_BS, **settings):
            result[rows, number] = np.asarray(w_BLD)[: len(result[rows])]
        return result

    def check_codes(self, codes: Codes, batch: int, length: int | None) -> np.ndarray:
        """Codes (batch, length) of this world as int32; None for any length."""
        return check_codes(codes, len(self.codes), (batch, length))

    def parameters(self) -> dict[str, int]:
        """Numbers that play loads, by part, and their total."""
        return parameters_of(self)

    def gflop_per_frame(self) -> dict[str, float]:
        """Arithmetic of one step by part, and the total, in 10^9 operations (two a multiply-add).

        The encoder's part is that of re-encoding, spread over the steps between two encodings.
        """
        return gflop_of(self)
