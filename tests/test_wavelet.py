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
    sum_bands,
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


def test_bands_in_blocks_merge_alike():
    bands = torch.randn(2, 20, 3, 5)
    merged = merge_blocks(bands[:, band_order(20)])
    torch.testing.assert_close(merged, merge_bands(bands))
    assert merged.is_contiguous(memory_format=torch.channels_last)


def test_bands_apart_are_scaled_and_merged_alike():
    bands, scales = torch.randn(2, 20, 3, 5), torch.randn(2, 4, 5)
    apart = sum_bands(bands.chunk(4, 1), scales)
    torch.testing.assert_close(apart, merge_blocks(bands * scales.flatten(1)[:, :, None, None]))
    assert apart.is_contiguous(memory_format=torch.channels_last)


def test_pixels_of_bands_are_the_image_before_it_is_spread():
    bands = torch.randn(2, 12, 3, 5)
    pixels = pixels_of_bands(bands.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(spread_pixels(pixels), haar_idwt(bands))


def test_bytes_are_spread_to_their_row_and_column():
    pixels = torch.randint(0, 256, (2, 12, 3, 5), dtype=torch.uint8)
    spread = spread_pixels(pixels)
    for row in range(2):
        for column in range(2):
            first = 3 * (2 * row + column)
            assert torch.equal(spread[:, :, row::2, column::2], pixels[:, first : first + 3])
