import pytest
import torch

from torch_bridge.wavelet import (
    band_order,
    haar_dwt,
    haar_idwt,
    merge_bands,
    merge_blocks,
    pixels_of_bands,
    spread_pixels,
)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_round_trips(memory_format):
    image = torch.randn(2, 5, 8, 6).to(memory_format=memory_format)
    bands = haar_dwt(image)
    assert bands.shape == (2, 20, 4, 3)
    torch.testing.assert_close(haar_idwt(bands), image)
    torch.testing.assert_close(haar_dwt(haar_idwt(bands)), bands)
    torch.testing.assert_close(bands.square().sum(), image.square().sum())  # orthonormal


@pytest.mark.parametrize(
    ("band", "pattern"),
    [
        (0, [[1, 1], [1, 1]]),  # LL
        (1, [[1, 1], [-1, -1]]),  # LH
        (2, [[1, -1], [1, -1]]),  # HL
        (3, [[1, -1], [-1, 1]]),  # HH
    ],
)
def test_band_patterns(band, pattern):
    bands = torch.zeros(1, 4, 1, 1)
    bands[0, band] = 1
    torch.testing.assert_close(haar_idwt(bands)[0, 0], torch.tensor(pattern) * 0.5)
    torch.testing.assert_close(merge_bands(bands), 2 * haar_idwt(bands))


def test_packing_is_low_bands_first_then_channel_by_channel():
    image = torch.zeros(1, 3, 2, 2)
    image[0, 1, 0] = 1  # upper row of green
    assert haar_dwt(image).flatten().tolist() == [0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="odd"):
        haar_dwt(torch.zeros(1, 1, 3, 4))
    with pytest.raises(ValueError, match="fours"):
        haar_idwt(torch.zeros(1, 6, 2, 2))


@pytest.mark.parametrize("channels_first", [False, True])
def test_bands_in_blocks_merge_alike(channels_first: bool):
    bands = torch.randn(2, 20, 3, 5)
    merged = merge_blocks(bands[:, band_order(20)], channels_first=channels_first)
    torch.testing.assert_close(merged, merge_bands(bands))
    assert merged.is_contiguous(memory_format=torch.contiguous_format if channels_first else torch.channels_last)


@pytest.mark.parametrize("channels_first", [False, True])
def test_pixels_of_bands_are_the_image_before_it_is_spread(channels_first: bool):
    bands = torch.randn(2, 12, 3, 5)
    pixels = pixels_of_bands(bands.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(spread_pixels(pixels, channels_first=channels_first), haar_idwt(bands))
    levels = torch.arange(2 * 12 * 15, dtype=torch.int32).reshape(2, 12, 3, 5).to(torch.uint8)
    both = [spread_pixels(levels, channels_first=one) for one in (False, True)]
    assert torch.equal(*both)
