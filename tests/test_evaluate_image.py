"""Pixel measures and the bootstrap against values that are known."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from train.evaluate.bootstrap import mean_estimate, ratio_estimate
from train.evaluate.image import PSNR_CAP_DB, gradient_energy, psnr, ssim
from train.evaluate.reconstruction import cosine_distance


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (2, 3, 24, 20, 3)).astype(np.uint8)
    noise = rng.integers(-30, 31, truth.shape)
    return truth, np.clip(truth + noise, 0, 255).astype(np.uint8)


def test_psnr_of_a_known_error() -> None:
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    other = truth + np.array([5, 10], np.uint8)[:, None, None, None]
    np.testing.assert_allclose(psnr(truth, other), 20 * np.log10([255 / 5, 255 / 10]))


def test_psnr_agrees_with_scikit_image_and_keeps_leading_dimensions(pair) -> None:
    truth, other = pair
    values = psnr(truth, other)
    assert values.shape == (2, 3)
    expected = peak_signal_noise_ratio(truth[1, 2], other[1, 2], data_range=255)
    assert values[1, 2] == pytest.approx(expected, abs=1e-4)


def test_psnr_of_equal_pictures_is_the_cap_and_a_single_grey_level_stays_below(pair) -> None:
    truth, _ = pair
    assert psnr(truth, truth) == pytest.approx(np.full((2, 3), PSNR_CAP_DB))
    nearly = truth.copy()
    nearly[0, 0, 0, 0, 0] ^= 1
    assert psnr(truth, nearly)[0, 0] < PSNR_CAP_DB


def test_psnr_broadcasts_one_picture_against_a_film(pair) -> None:
    truth, other = pair
    np.testing.assert_allclose(psnr(truth, other[0, 0])[1, 1], psnr(truth[1, 1], other[0, 0]))


def test_ssim_takes_the_last_axis_for_colours_and_one_value_a_picture(pair) -> None:
    truth, other = pair
    values = ssim(truth, other)
    expected = structural_similarity(truth[1, 0], other[1, 0], channel_axis=2, data_range=255)
    assert values.shape == (2, 3)
    assert values[1, 0] == pytest.approx(expected)
    assert ssim(truth, truth) == pytest.approx(np.ones((2, 3)))


def test_ssim_does_not_mix_colours() -> None:
    """Swapped colour channels of a grey-free picture must not look alike, as they would if averaged over colours."""
    rng = np.random.default_rng(1)
    red = np.zeros((1, 32, 32, 3), np.uint8)
    red[..., 0] = rng.integers(0, 256, (1, 32, 32))
    assert ssim(red, red[..., ::-1])[0] < 0.6


def test_sharpness_of_a_blur_is_below_half_though_its_psnr_is_not_the_lowest() -> None:
    rng = np.random.default_rng(2)
    sharp = rng.integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    padded = np.pad(sharp, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float64)
    blurred = sum(padded[:, i : i + 32, j : j + 32] for i in range(3) for j in range(3)) / 9
    blurred = blurred.astype(np.uint8)
    assert gradient_energy(blurred)[0] < 0.3 * gradient_energy(sharp)[0]
    assert psnr(sharp, blurred)[0] > psnr(sharp, np.roll(sharp, 3, 1))[0]


def test_gradient_energy_of_a_ramp() -> None:
    """A ramp of 2 grey levels a pixel: Sobel gives 8 times the slope everywhere but at both edges, where it gives 0."""
    ramp = np.broadcast_to((2 * np.arange(16, dtype=np.uint8))[None, :, None], (16, 16, 3))
    assert gradient_energy(ramp[None])[0] == pytest.approx((2 * 8) ** 2 * 14 / 16, rel=1e-5)


def test_cosine_distance_knows_angles_and_not_lengths() -> None:
    a = np.array([[[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    b = np.array([[[3.0, 0.0]], [[0.0, 2.0]], [[-1.0, 0.0]]])
    np.testing.assert_allclose(cosine_distance(a, b), [0, 1, 2])


def test_the_interval_covers_the_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(3)
    estimates = [mean_estimate(rng.normal(2.0, 1.0, 60), seed=i) for i in range(120)]
    covered = np.mean([e.low <= 2.0 <= e.high for e in estimates])
    assert 0.88 <= covered <= 0.99


def test_repeating_every_value_does_not_narrow_an_interval_by_group() -> None:
    values = np.random.default_rng(4).normal(size=40)
    alone = mean_estimate(values, seed=0)
    repeated = mean_estimate(np.repeat(values, 10), groups=np.repeat(np.arange(40), 10), seed=0)
    blind = mean_estimate(np.repeat(values, 10), seed=0)
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))
    assert blind.high - blind.low < 0.5 * (alone.high - alone.low)


def test_estimates_are_seeded_and_ratios_are_of_sums() -> None:
    top, bottom = np.array([1.0, 9.0]), np.array([1.0, 3.0])
    assert ratio_estimate(top, bottom, seed=1) == ratio_estimate(top, bottom, seed=1)
    assert ratio_estimate(top, bottom).value == pytest.approx(10 / 4)
    with pytest.raises(ValueError, match="not empty"):
        mean_estimate(np.zeros(0))
