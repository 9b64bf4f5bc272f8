"""Reconstruction of held-out frames by an unfinished run's encoder and student, as a table and as strips of pictures.

The arithmetic is that of `genie evaluate`; a run without dynamics is no world yet, so its networks are read from the
stages' results.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_table import markdown, write
from jaxtyping import UInt8
from PIL import Image

from torch_bridge.encoder import Encoder
from torch_bridge.frame_codec import FrameCodec, count_parameters
from torch_bridge.mobile_stylegan import Student
from train.config import Config
from train.evaluate.image import gradient_energy, psnr, ssim
from train.evaluate.pictures import captioned_rows
from train.evaluate.reconstruction import cosine_distance
from train.evaluate.suite import mean_of_frames
from train.ingest.store import FrameStore
from train.run import Run, read_result, write_json
from train.torch_stage import evenly, load_arrays

SHOWN = 8
# Heading, key of what was measured, format.
COLUMNS = (
    ("PSNR", "psnr", "{:.2f}"),
    ("mean frame", "mean_frame_psnr", "{:.2f}"),
    ("SSIM", "ssim", "{:.3f}"),
    ("sharpness", "sharpness", "{:.2f}"),
    ("fixed point", "fixed_point", "{:.4f}"),
    ("rows of w", "rows", "{:.0f}"),
    ("parameters", "parameters", "{:.0f}"),
    ("encoder steps", "encoder_steps", "{:.0f}"),
    ("minutes", "minutes", "{:.1f}"),
)


def codec_of(run: Run, config: Config) -> FrameCodec:
    """The encoder after the drift stage, and the student in its form for play, as a world would have them."""
    encoder = load_arrays(Encoder(config.encoder.model), read_result(run.folder("drift"), "encoder"))
    student = load_arrays(Student(config.student.model), read_result(run.folder("encoder"), "student"))
    return FrameCodec(encoder, student.for_play(), config.size, torch.device("cpu"))


def measure(run: Run, config: Config, heldout: Path, frames: Path, place: Path, asked: Mapping[str, Any]) -> None:
    """Write what a variant reconstructs of the held-out frames.

    Args:
        run: trained up to its drift stage.
        config: of the run.
        heldout: folder of held-out frames.
        frames: folder of the run's frames; their mean is the floor.
        place: the JSON file; pictures of `SHOWN` frames are written beside it.
        asked: what decides the result, kept with it; `count` frames are measured.
    """
    store, training = FrameStore(heldout), FrameStore(frames)
    codec = codec_of(run, config)
    truth = store.read(evenly(np.arange(len(store)), asked["count"]))
    w_NLD = codec.encode(torch.from_numpy(truth))
    other = codec.decode(w_NLD)
    again_NLD = codec.encode(other).numpy()
    made = other.numpy()
    shown = codec.decode(codec.encode(torch.from_numpy(shown_frames(store)))).numpy()
    mean_frame = mean_of_frames(training, [tuple(shot) for shot in training.shots])
    steps = run.stages["encoder"].steps
    values = {
        "psnr": float(psnr(truth, made).mean()),
        "mean_frame_psnr": float(psnr(truth, mean_frame).mean()),
        "ssim": float(ssim(truth, made).mean()),
        "sharpness": float(gradient_energy(made).sum() / gradient_energy(truth).sum()),
        "fixed_point": float(cosine_distance(w_NLD.numpy(), again_NLD).mean()),
        "rows": config.rows,
        "parameters": count_parameters(codec.encoder) + count_parameters(codec.decoder),
        "encoder_steps": steps,
        "minutes": sum(record.seconds for record in run.stages.values()) / 60,
        "frames": len(truth),
    }
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(list(shown), axis=1)).save(place.with_suffix(".png"))
    write_json(place, {"asked": dict(asked), "measured": values})  # last: it says that all is there


def shown_frames(store: FrameStore) -> UInt8[np.ndarray, "n H W C"]:
    """The frames of the strips, the same for every variant."""
    return store.read(evenly(np.arange(len(store)), SHOWN))


def measured_with(place: Path, asked: Mapping[str, Any]) -> bool:
    """Whether a variant was measured as asked."""
    return place.exists() and json.loads(place.read_text(encoding="utf-8"))["asked"] == asked


def measured(out: Path, name: str) -> list[dict[str, float]]:
    """What was measured of a variant, for each seed."""
    places = sorted((out / "measured").glob(f"{name}-[0-9]*.json"))
    return [json.loads(place.read_text(encoding="utf-8"))["measured"] for place in places]


def best(out: Path, names: Mapping[str, object]) -> str:
    """The variant with the highest median PSNR."""
    return max(names, key=lambda name: float(np.median([values["psnr"] for values in measured(out, name)])))


def write_table(out: Path, what: Mapping[str, str]) -> None:
    """OUT/table.md and OUT/table.json of what is measured so far: the median over seeds, and the range.

    Args:
        out: holds `measured/VARIANT-SEED.json`.
        what: the variants in words, in the table's order.
    """
    found = {name: several for name in what if (several := measured(out, name))}
    write(out / "table.md", markdown(COLUMNS, what, found))
    write(out / "table.json", json.dumps(found, indent=1) + "\n")


def write_strips(out: Path, what: Mapping[str, str], heldout: Path) -> None:
    """OUT/strips.png: held-out frames, and below them what each variant makes of them, its first seed's."""
    truth = shown_frames(FrameStore(heldout))
    rows = {"truth": truth}
    for name in what:
        if places := sorted((out / "measured").glob(f"{name}-[0-9]*.png")):
            strip = np.asarray(Image.open(places[0]))
            rows[name] = np.stack(np.split(strip, len(truth), axis=1))
    Image.fromarray(captioned_rows(rows, [""] * len(truth))).save(out / "strips.png")
