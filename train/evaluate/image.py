"""Pixel measures of one picture against another: PSNR, SSIM, gradient energy.

All take uint8 RGB with any leading dimensions and give one number a picture, never one number a batch: the mean over
clips is taken by the caller, after the logarithm. (PSNR of the mean error over a batch is another, larger number.)
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from skimage.metrics import structural_similarity

PSNR_CAP_DB = 100.0
"""PSNR of two equal pictures, which has no finite value. Far above what eight bits can show short of equality."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def psnr(truth: UInt8[np.ndarray, "*n H W C"], other: UInt8[np.ndarray, "*n H W C"]) -> Float[np.ndarray, "*n"]:
    """Peak signal-to-noise ratio of every picture in dB, peak 255, at most `PSNR_CAP_DB`.

    Either side may be broadcast over leading dimensions (a mean frame against a film).
    """
    error = truth.astype(np.float32) - other.astype(np.float32)
    mse = np.square(error, out=error).mean((-3, -2, -1), dtype=np.float64)
    return 10 * np.log10(255.0**2 / np.maximum(mse, 255.0**2 / 10 ** (PSNR_CAP_DB / 10)))


def ssim(truth: UInt8[np.ndarray, "*n H W C"], other: UInt8[np.ndarray, "*n H W C"]) -> Float[np.ndarray, "*n"]:
    """Structural similarity of every picture (Wang 2004) by scikit-image, 7x7 windows inside each colour channel."""
    if truth.shape != other.shape:
        raise ValueError(f"ssim compares pictures of one shape; got {truth.shape} and {other.shape}")
    lead = truth.shape[:-3]
    pairs = zip(truth.reshape(-1, *truth.shape[-3:]), other.reshape(-1, *other.shape[-3:]), strict=True)
    values = [structural_similarity(a, b, channel_axis=-1, data_range=255) for a, b in pairs]
    return np.asarray(values, np.float64).reshape(lead)


def gradient_energy(frames: UInt8[np.ndarray, "*n H W C"]) -> Float[np.ndarray, "*n"]:
    """Mean squared length of the Sobel gradient of luminance of every picture, in squared grey levels.

    The ratio of two of these is `sharpness`: PSNR rewards a blur, this does not.
    """
    lead = frames.shape[:-3]
    grey = frames.reshape(-1, *frames.shape[-3:]).astype(np.float32) @ _LUMINANCE
    energy = [np.mean(cv2.Sobel(g, -1, 1, 0) ** 2 + cv2.Sobel(g, -1, 0, 1) ** 2) for g in grey]
    return np.asarray(energy, np.float64).reshape(lead)
