"""What every key of metrics.json means, in one sentence, and how to read it.

The report, the comparison and the table of keys in docs/metrics.md are made from this:
`python -m train.evaluate.meanings` prints the table, and a test holds it against the document.
"""

from typing import Literal, NamedTuple

Better = Literal["more", "less", "one", ""]


class Meaning(NamedTuple):
    """One key: its sentence, how to read its value, its unit, which of two values is better ("one": nearer to 1)."""

    text: str
    read: str = ""
    unit: str = ""
    better: Better = ""


_CHANCE = Meaning("chance level: always the majority action")

MEANINGS: dict[str, Meaning] = {
    "reconstruction.psnr": Meaning(
        "frame against decode(encode(frame))", "above `reconstruction.mean_frame_psnr` by 3 dB or more", "dB", "more"
    ),
    "reconstruction.ssim": Meaning(
        "the same as structural similarity (scikit-image, 7x7, within each colour)", "1 = equal", better="more"
    ),
    "reconstruction.lpips": Meaning("the same as LPIPS (AlexNet)", "0 = equal", better="less"),
    "reconstruction.mean_frame_psnr": Meaning(
        "floor: the mean frame of the training data in place of the reconstruction",
        "`data.mean_frame_source` says of which frames",
        "dB",
    ),
    "reconstruction.sharpness": Meaning(
        "Sobel energy of the luminance over that of the truth",
        "1 = as sharp; PSNR rewards a blur, this does not",
        better="one",
    ),
    "reconstruction.fixed_point": Meaning(
        "1 - cosine between w and encode(decode(w)), mean over rows", "0 = a picture says the same w again", "", "less"
    ),
    "rollout.psnr": Meaning("by step 1..64: rollout against the truth", "above `rollout.copy_last_psnr`", "dB", "more"),
    "rollout.ssim": Meaning("by step: the same as structural similarity", "1 = equal", better="more"),
    "rollout.lpips": Meaning("by step: the same as LPIPS (AlexNet)", "0 = equal", better="less"),
    "rollout.sharpness": Meaning(
        "by step: Sobel energy of the rollout over that of the truth", "falls where the rollout blurs", better="one"
    ),
    "rollout.copy_last_psnr": Meaning("baseline by step: the prompt's last frame held", unit="dB"),
    "rollout.mean_frame_psnr": Meaning("baseline by step: the mean frame", unit="dB"),
    "rollout.reconstruction_psnr": Meaning("ceiling by step: decode(encode(truth))", unit="dB"),
    "rollout.horizon": Meaning(
        "last step whose mean PSNR is above the held frame's, 0 if none; interval over resampled clips",
        unit="steps",
        better="more",
    ),
    "control.delta_psnr": Meaning(
        "at 1, 4, 8, 16: PSNR with the inferred codes minus PSNR with uniformly random codes, prompt 16",
        "0 = the world ignores its codes; step 4 is the main figure",
        "dB",
        "more",
    ),
    "control.delta_psnr_empirical": Meaning(
        "the same with random codes drawn as often as they occur", unit="dB", better="more"
    ),
    "control.delta_psnr_prompt1": Meaning("from a prompt of one frame, uniform", unit="dB", better="more"),
    "control.delta_psnr_empirical_prompt1": Meaning(
        "from a prompt of one frame, codes as often as they occur", unit="dB", better="more"
    ),
    "actions.perplexity": Meaning("exp of the entropy of the codes", "at most the number of codes", "codes"),
    "actions.usage": Meaning("codes with at least 1% of the transitions", unit="codes", better="more"),
    "actions.nmi": Meaning(
        "normalised mutual information of codes and true actions",
        "above `actions.chance.nmi` (true actions shuffled)",
        better="more",
    ),
    "actions.probe_accuracy": Meaning(
        "logistic probe from the code, trained on 80% of the episodes, scored on the rest",
        "above its chance level",
        better="more",
    ),
    "actions.probe_accuracy_vector": Meaning("the same from the vector before quantisation", better="more"),
    "actions.mode_accuracy": Meaning(
        "each code named by its most frequent true action in 200 labels, scored on the rest, mean of 20 draws",
        "above its chance level",
        better="more",
    ),
    "actions.supervised_accuracy": Meaning(
        "ceiling: a convolutional classifier of frame pairs, same episodes (`--full`)",
        "read `actions.mode_accuracy` as a share of it",
    ),
    "actions.chance.nmi": Meaning("chance level: true actions shuffled in time"),
    "actions.chance.probe_accuracy": _CHANCE,
    "actions.chance.mode_accuracy": _CHANCE,
    "actions.chance.supervised_accuracy": _CHANCE,
    "actions.consistency": Meaning(
        "mean cosine of the optical flow that one code, held for 4 steps, makes from different prompts",
        "well above `actions.chance.consistency`; 1 = everywhere the same",
        better="more",
    ),
    "actions.chance.consistency": Meaning(
        "the same of different codes: about 0 where they move apart, as high as `actions.consistency` where the codes "
        "do nothing"
    ),
    "latents.code_recovery": Meaning(
        "accuracy of a small classifier of (w_t, w_t+1) that predicts the code",
        "well above chance: w still carries the motion",
        better="more",
    ),
    "latents.chance.code_recovery": Meaning("chance level: always the majority code"),
    "drift.colour": Meaning(
        "at 16, 64, 256, 1000, random codes: mean over channels of the shift of mean plus the shift of standard "
        "deviation against the data",
        "grey levels of 255; 0 = as the data",
        "grey levels",
        "less",
    ),
    "drift.colour_held": Meaning("the same with one code held", unit="grey levels", better="less"),
    "drift.frechet_w": Meaning(
        "Frechet distance of w of generated frames to w of real frames, over that of two random halves of the real "
        "frames, sets of equal size",
        "1 = as the data",
        better="less",
    ),
    "drift.frechet_w_held": Meaning("the same with one code held", better="less"),
    "fvd": Meaning(
        "Frechet video distance of continued clips to real ones: 16 frames, up to 2048 clips, without the prompt; "
        "with `--i3d FILE` alone",
        better="less",
    ),
    "play.fps": Meaning(
        "frames a second of `World.step`, one player, 300 steps after 20 of warm-up, in a fresh process",
        "at least `data.fps`",
        "frames/s",
        "more",
    ),
    "play.p50_ms": Meaning("median time of a step", unit="ms", better="less"),
    "play.p95_ms": Meaning("95% of the steps are faster", unit="ms", better="less"),
    "play.first_frame_ms": Meaning("from the reset to the first frame, compilation included", unit="ms", better="less"),
    "play.peak_memory_mb": Meaning("most memory that the playing process held", unit="MiB", better="less"),
    "budget.parameters": Meaning(
        "numbers that play loads, by part and `total`", "at most 36.7 M", "parameters", "less"
    ),
    "budget.gflop_per_frame": Meaning(
        "10^9 floating-point operations of one generated frame, by part and `total`; of re-encoding its share",
        "at most 5",
        "GFLOP",
        "less",
    ),
}


def markdown_table() -> str:
    """The table of keys of docs/metrics.md."""
    lines = ["| key | meaning | unit | read it so |", "|---|---|---|---|"]
    for key, meaning in MEANINGS.items():
        cells = (f"`{key}`", meaning.text, meaning.unit, meaning.read)
        lines.append("|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table())
