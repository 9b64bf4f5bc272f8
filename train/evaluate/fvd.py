"""Frechet video distance (FVD): are generated stretches of film distributed like real ones? Unterthiner et al. 2018,
arXiv:1812.01717, in the protocol of StyleGAN-V (Skorokhodov et al. 2022, arXiv:2112.14683): 16 frames, 2048 clips, the
400 features of an I3D network before its softmax.

The network is a file that the user gives: `i3d_torchscript.pt`, the port of StyleGAN-V. A TorchScript file is a
program, so it is run only where the user names it; nothing is downloaded.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from torch_bridge.images import to_float
from train.errors import UserError
from train.evaluate.bootstrap import jackknife_estimate
from train.evaluate.clips import choose_clips
from train.evaluate.context import Context, infer_codes
from train.evaluate.drift import frechet
from train.evaluate.results import Results
from train.evaluate.rollout import predict

FRAMES, CLIPS, SIDE = 16, 2048, 224
VideoFeatures = Callable[[UInt8[np.ndarray, "B T H W C"]], Float[np.ndarray, "B F"]]
MISSING = (
    "it needs the I3D network of StyleGAN-V (i3d_torchscript.pt), which is not part of this program: give the file as "
    "--i3d FILE"
)
_CLIPS_AT_ONCE = 4


def load_i3d(path: str | Path) -> VideoFeatures:
    """The network of a file: clips of uint8 frames to features.

    Raises:
        UserError: there is no such file, or it holds no such network.
    """
    path = Path(path)
    remedy = "Give i3d_torchscript.pt of StyleGAN-V"
    if not path.is_file():
        raise UserError(path, "there is no such file", remedy)
    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(path, "it is no TorchScript file", remedy) from error

    @torch.inference_mode()
    def features(clips_BTHWC: UInt8[np.ndarray, "B T H W C"]) -> Float[np.ndarray, "B F"]:
        parts = []
        for start in range(0, len(clips_BTHWC), _CLIPS_AT_ONCE):
            clips = torch.from_numpy(np.ascontiguousarray(clips_BTHWC[start : start + _CLIPS_AT_ONCE]))
            images = to_float(clips.flatten(0, 1))
            images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
            video_BCTHW = images.unflatten(0, clips.shape[:2]).transpose(1, 2)
            parts.append(network(video_BCTHW, rescale=False, resize=False, return_features=True))
        return torch.cat(parts).double().numpy()

    try:
        found = features(np.zeros((1, FRAMES, SIDE, SIDE, 3), np.uint8))
    except RuntimeError as error:
        raise UserError(path, "its network does not take clips as I3D does", remedy) from error
    if found.ndim != 2:
        raise UserError(path, f"its network gives features of shape {found.shape}", remedy)
    return features


def report_fvd(context: Context, features: VideoFeatures, results: Results) -> None:
    """Write `fvd`: real clips against those that the world continues from the same prompts with the same codes.

    The prompt is no part of either. Clips are evenly spaced and overlap where the video holds fewer than 2048.
    """
    clips = choose_clips(context.store, context.shots, CLIPS, longest=FRAMES)
    if clips.steps < FRAMES:
        results.missing("fvd", f"no shot holds {clips.prompt} frames of prompt and {FRAMES} to compare")
        return
    codes_NTm1 = infer_codes(context.world, clips, lambda _: None)
    real, made = [], []
    for chosen in clips.batches():
        frames, codes = clips.frames(chosen), codes_NTm1[chosen]
        prompt, before = frames[:, : clips.prompt], clips.prompt - 1
        real.append(features(frames[:, clips.prompt :]))
        made.append(features(predict(context, prompt, codes[:, :before], codes[:, before:])))
        context.log(f"  features of clip {chosen.stop}/{len(clips)}")
    real_NF, made_NF = np.concatenate(real), np.concatenate(made)
    value = jackknife_estimate(lambda rows: frechet(made_NF[rows], real_NF), clips.groups_N, seed=context.seed)
    said = context.said("autoregressive", codes="inferred from the truth", overlapping_clips=clips.overlapping)
    results.number("fvd", value, **{**said, "prompt": clips.prompt, "frames": FRAMES, "wanted_clips": CLIPS})
