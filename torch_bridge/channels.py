"""Width of the StyleGAN2 networks at every resolution (Karras et al. 2020, arXiv 1912.04958, appendix B)."""

_COARSE_WIDTH = 512  # 4 to 32 px
_WIDTH_TIMES_RESOLUTION = 16384  # above 32 px the width halves whenever the resolution doubles: 256 at 64 px


def check_size(size: int) -> None:
    """Raise ValueError unless `size` is an image size that these networks can have: a power of two from 8 on."""
    if size < 8 or size & (size - 1):
        raise ValueError(f"The image size must be a power of two of at least 8, not {size}: choose 32, 64, 128 or 256.")


def width_at(resolution: int, multiplier: float, maximum: int) -> int:
    """Channels at `resolution`: 512 up to 32 px, then 256, 128, 64, ... times `multiplier`; never above `maximum`."""
    if resolution <= 32:
        return min(_COARSE_WIDTH, maximum)
    return min(int(_WIDTH_TIMES_RESOLUTION // resolution * multiplier), maximum)


def resolutions(size: int) -> list[int]:
    """4, 8, ..., size."""
    return [2**i for i in range(2, size.bit_length())]


def infer_multiplier(widths: dict[int, int]) -> tuple[float, int]:
    """The (multiplier, maximum) that give `widths` (resolution -> channels).

    Raises ValueError where no pair does. Where several do, because every width is at the maximum or the image is
    32 px or smaller, the choice makes no difference; the usual 2 is preferred.
    """
    maximum = max(widths.values())
    fine = [(resolution, width) for resolution, width in widths.items() if resolution > 32]
    candidates = [2.0, 1.0, *(width * resolution / _WIDTH_TIMES_RESOLUTION for resolution, width in reversed(fine))]
    for multiplier in candidates:
        if all(width_at(resolution, multiplier, maximum) == width for resolution, width in widths.items()):
            return multiplier, maximum
    raise ValueError(f"The widths {widths} follow no StyleGAN2 channel table: the file is of another architecture.")
