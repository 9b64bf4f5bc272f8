"""The whole evaluation: every measure in turn, then metrics.json, a table, pictures and report.html in one folder."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from train.errors import UserError
from train.evaluate.actions import report_agreement, report_codes
from train.evaluate.budget import report_budget
from train.evaluate.classifiers import report_code_recovery, report_supervised
from train.evaluate.clips import choose_clips
from train.evaluate.consistency import report_consistency
from train.evaluate.context import Context, infer_codes
from train.evaluate.control import report_control
from train.evaluate.curve import Line, draw_curves
from train.evaluate.drift import report_drift
from train.evaluate.fvd import MISSING, VideoFeatures, load_i3d, report_fvd
from train.evaluate.lpips_distance import load_lpips
from train.evaluate.meanings import MEANINGS
from train.evaluate.pictures import film_strips, reconstruction_grid
from train.evaluate.play import report_play
from train.evaluate.profile import PROFILES, Log, Profile
from train.evaluate.provenance import describe_making, describe_world
from train.evaluate.reconstruction import Reconstruction, reconstruct, report_reconstruction
from train.evaluate.report import write_report
from train.evaluate.results import LEFT_OUT, Results
from train.evaluate.rollout import Rollouts, report_rollout, roll_out
from train.evaluate.subject import EvaluatedFrames, EvaluatedWorld
from train.evaluate.table import format_table
from train.evaluate.transitions import gather
from train.evaluate.truth import TrueActions, actions_of_kept, split_at_cuts

GROUPS = ("rollout", "control", "actions", "drift", "play")
_GROUP_OF = {**{name: name for name in GROUPS}, "latents": "actions", "fvd": "drift"}
PICTURES = ("reconstruction", "rollouts", "psnr_by_step")
_MEAN_FRAMES = 1024


def evaluate(
    world: EvaluatedWorld,
    store: EvaluatedFrames,
    *,
    out: str | Path,
    actions: TrueActions | None = None,
    shots: Sequence[tuple[int, int]] | None = None,
    heldout: str = "as the caller says",
    mean_frame: UInt8[np.ndarray, "H W C"] | None = None,
    world_path: str | Path | None = None,
    device: str = "auto",
    profile: str | Profile = "normal",
    clips: int | None = None,
    steps: int | None = None,
    far: int | None = None,
    only: Sequence[str] = GROUPS,
    seed: int = 0,
    i3d: str | Path | None = None,
    subject: str = "video",
    command: str = "",
    log: Log = print,
) -> dict:
    """Measure a world on frames that it has not seen; write `metrics.json`, `metrics.txt`, pictures, `report.html`.

    Args:
        store: frames at the world's own size and rate.
        out: folder for the results, made if it is not there.
        actions: true actions of the video that the frames come from.
        shots: spans [start, stop) to evaluate (held-out ones), all shots of the store if None.
        heldout: whether any stage saw these frames, in words, for the record.
        mean_frame: mean of the training data, the floor; the mean of the evaluated frames if None.
        world_path: the world's folder, from which a fresh process times play; None times it in this process.
        device: of that process, "auto", "cpu", "cuda" or "mps".
        profile: "quick", "normal" or "full", see `Profile`.
        clips: how many clips, in place of the profile's number.
        steps: length of the rollouts, in place of 64.
        far: the step at which drift is measured last, with Frechet distances, in place of the profile's.
        only: groups of measures to take, of `GROUPS`; reconstruction and budget are always taken, and what is left out
            is null.
        i3d: file of the network for `fvd`, see `load_i3d`; null without.
        subject: what the frames are, in the user's words, for the table and for errors.
        command: the command line that asked for this, for the record.

    Returns:
        The tree of docs/metrics.md, as it stands in metrics.json.

    Raises:
        UserError: no shot is long enough, the actions do not fit the video, or `i3d` is no such network.
    """
    began = time.perf_counter()
    profile = PROFILES[profile] if isinstance(profile, str) else profile
    profile = profile if clips is None else replace(profile, clips=clips)
    profile = profile if steps is None else replace(profile, steps=steps)
    profile = profile if far is None else profile.up_to(far)
    if unknown := [name for name in only if name not in GROUPS]:
        raise UserError(
            "--only", f"there are no measures called {', '.join(unknown)}", f"choose of {', '.join(GROUPS)}"
        )
    features = None if i3d is None else load_i3d(i3d)
    kept_actions = None if actions is None else actions_of_kept(store, actions)
    spans = [(int(a), int(b)) for a, b in (store.shots if shots is None else shots)]
    if actions is not None:
        spans = split_at_cuts(store, spans, actions.cuts)
    context = _context(world, store, spans, mean_frame, profile, seed, subject, log)
    folder = None if world_path is None else Path(world_path)
    results = Results(
        data={**_about(context, subject), "heldout": heldout},
        world=describe_world(world, folder, context.mean_frame.shape[0]),
        made=describe_making(command, device),
    )
    name = str if actions is None else actions.name
    timed = None if folder is None else (folder, device)
    _measure(context, kept_actions, name, results, timed, Path(out), only, features)
    tree = results.tree()
    tree["data"]["seconds"] = round(time.perf_counter() - began, 1)
    _write(Path(out), tree)
    write_report(out)
    return tree


def _context(
    world: EvaluatedWorld,
    store: EvaluatedFrames,
    spans: list[tuple[int, int]],
    mean_frame: np.ndarray | None,
    profile: Profile,
    seed: int,
    subject: str,
    log: Log,
) -> Context:
    if profile.clips < 1:
        raise UserError("--clips", f"{profile.clips} is no number of clips", "Give at least 1")
    chosen = choose_clips(store, spans, profile.clips, longest=profile.steps, subject=subject)
    log(f"[1/7] codes of {len(chosen)} clips of {chosen.prompt} + {chosen.steps} frames")
    source = "training data"
    if mean_frame is None:
        mean_frame, source = (
            mean_of_frames(store, spans),
            "the evaluated frames (a harder floor than the training data's)",
        )
    return Context(
        world, store, spans, chosen, infer_codes(world, chosen, log), len(world.codes),
        mean_frame, source, load_lpips(), profile, seed, log,
    )  # fmt: skip


def _measure(
    context: Context,
    kept_actions: np.ndarray | None,
    name: Callable[[int], str],
    results: Results,
    folder: tuple[Path, str] | None,
    out: Path,
    only: Sequence[str],
    features: VideoFeatures | None,
) -> None:
    log = context.log
    log("[2/7] reconstruction")
    reconstruction = reconstruct(context)
    report_reconstruction(context, reconstruction, results)
    pictures = {"reconstruction": reconstruction_grid(reconstruction)}
    if "rollout" in only or "control" in only:
        log("[3/7] rollout")
        rollouts = roll_out(context)
    if "rollout" in only:
        report_rollout(context, rollouts, reconstruction, results)
        pictures |= {"rollouts": film_strips(rollouts), "psnr_by_step": _chart(reconstruction, rollouts, results)}
    _draw(out, pictures)
    if "control" in only:
        log("[4/7] control")
        report_control(context, rollouts, results)
    if "actions" in only:
        log("[5/7] actions")
        transitions = gather(context, kept_actions)
        report_codes(context, transitions, results)
        report_agreement(context, transitions, results, name)
        report_supervised(context, transitions, results)
        report_consistency(context, results)
        report_code_recovery(context, reconstruction, results)
    if "drift" in only:
        log("[6/7] drift")
        report_drift(context, results)
        if features is None:
            results.missing("fvd", MISSING)
        else:
            report_fvd(context, features, results)
    if "play" in only:
        log("[7/7] play")
        prompt = context.clips.frames(slice(0, 1))[0, : context.clips.prompt]
        report_play(
            context.world, folder, prompt, context.code_count, context.profile.play_steps, context.seed, results
        )
    report_budget(context.world, results)
    for key in MEANINGS:
        if _GROUP_OF.get(key.partition(".")[0], "rollout") not in only and not results.holds(key):
            results.missing(key, f"{LEFT_OUT}: --only {','.join(only)}")


def mean_of_frames(store: EvaluatedFrames, shots: Sequence[tuple[int, int]]) -> UInt8[np.ndarray, "H W C"]:
    """The mean of at most 1024 frames, evenly spaced over the shots, rounded to uint8."""
    inside = np.concatenate([np.arange(start, stop) for start, stop in shots])
    picked = np.unique(np.linspace(0, len(inside) - 1, min(_MEAN_FRAMES, len(inside))).round().astype(int))
    total, count = None, 0
    for start in range(0, len(picked), 64):
        frames = store.read(inside[picked[start : start + 64]].tolist())
        part = frames.sum(0, dtype=np.float64)
        total, count = part if total is None else total + part, count + len(frames)
    return np.round(total / count).astype(np.uint8)


def _about(context: Context, subject: str) -> dict[str, object]:
    clips = context.clips
    return {
        "subject": subject,
        "profile": context.profile.name,
        "seed": context.seed,
        "clips": len(clips),
        "overlapping_clips": clips.overlapping,
        "prompt": clips.prompt,
        "steps": clips.steps,
        "frames": int(sum(stop - start for start, stop in context.shots)),
        "shots": len(context.shots),
        "fps": float(context.store.fps),
        "mean_frame_source": context.mean_frame_source,
    }


def _chart(reconstruction: Reconstruction, rollouts: Rollouts, results: Results) -> UInt8[np.ndarray, "H W C"]:
    psnr = results.get("details.rollout.psnr.interval")
    interval = [[psnr[str(h + 1)][end] for h in range(rollouts.psnr_NS.shape[1])] for end in (0, 1)]
    return draw_curves(
        "How long a rollout stays close to the truth",
        "PSNR, dB",
        [
            Line("rollout", rollouts.psnr_NS.mean(0), (31, 99, 178), (interval[0], interval[1])),
            Line("held last frame", rollouts.copy_last_psnr_NS.mean(0), (214, 96, 43)),
            Line("mean frame", reconstruction.mean_frame_psnr_NS.mean(0), (140, 140, 140)),
            Line("decode(encode(truth))", reconstruction.psnr_NS.mean(0), (52, 140, 83)),
        ],
    )


def _draw(out: Path, pictures: Mapping[str, UInt8[np.ndarray, "H W C"]]) -> None:
    """Write the pictures; those of an earlier evaluation in the folder that this one leaves out go."""
    out.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        if name in pictures:
            Image.fromarray(pictures[name]).save(out / f"{name}.png")
        else:
            (out / f"{name}.png").unlink(missing_ok=True)


def _write(out: Path, tree: dict) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("metrics.json", json.dumps(tree, indent=1, allow_nan=False) + "\n"),
        ("metrics.txt", format_table(tree)),
    ):
        beside = out / f".{name}.{os.getpid()}.tmp"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, out / name)
