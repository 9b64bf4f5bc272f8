"""W+ of a StyleGAN2 generator as W+ of its student, and back; the noise images likewise. The only such map.

With b blocks in the student (8 px to size/2) the generator has 2b + 4 rows and the student 3b + 2:

    student                                      row          generator's row
    4 px convolution                             0            0
    4 px head                                    1            1
    block i: upsampling and first convolution    3i + 1       2i + 1
    block i: second convolution                  3i + 2       2i + 2
    block i: head                                3i + 3       2i + 3

The generator's RGB head shares its row with the next block's first convolution, in the student they have one each. Row
3b + 1 of the student is never read. Rows 2b + 2 and 2b + 3 of the generator belong to its full resolution, where the
student has no layer.

The published teacher (MobileStyleGAN, arXiv 2104.04767) cuts the rows of each block and then hands over all of w, so
that every block reads rows 0, 1 and 2. With one w for all rows nothing of that shows; with mixed rows the student
would be taught images of another w. Here the teacher is `stylegan2.Generator`, whose blocks read their own rows.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def student_rows(w_BLD: Float[Tensor, "B L D"]) -> Float[Tensor, "B R D"]:
    """Rows of the student, R = 3b + 2, of a generator's W+ of L = 2b + 4 rows for the same image size.

    Raises ValueError for an odd number of rows or fewer than 6, which no generator with a student has.
    """
    if w_BLD.ndim != 3 or w_BLD.shape[1] % 2 or w_BLD.shape[1] < 6:
        raise ValueError(
            f"A generator's W+ is (B, L, D) with an even number L of at least 6 rows, not {tuple(w_BLD.shape)}."
        )
    return w_BLD[:, _sources(w_BLD.shape[1] // 2 - 2)]


def teacher_rows(w_BRD: Float[Tensor, "B R D"]) -> Float[Tensor, "B Lm2 D"]:
    """The generator's first 2b + 2 rows of a student's W+ of R = 3b + 2: `teacher_rows(student_rows(w)) == w[:, :-2]`.

    The two rows of full resolution are not the student's to say; append those of another w, or the mean w.
    It is defined where the student's rows agree that are one row in the generator: rows 3i and 3i + 1. They are not
    averaged, because only one of them reaches the student's image, and what the other holds may be anything.

    Raises ValueError for a number of rows that no student has, and for rows that disagree, by name.
    """
    blocks, left_over = divmod(w_BRD.shape[1] - 2, 3) if w_BRD.ndim == 3 else (0, 0)
    if left_over or blocks < 1:
        raise ValueError(
            f"A student's W+ is (B, R, D) with R = 5, 8, 11, ... (3 for each block and 2), not {tuple(w_BRD.shape)}."
        )
    sources = _sources(blocks)
    rows = w_BRD[:, [sources.index(row) for row in range(2 * blocks + 2)]]
    differing = [row for row, same in enumerate((rows[:, sources] == w_BRD).flatten(2).all(2).all(0)) if not same]
    if differing:
        row = differing[0]
        raise ValueError(
            f"Rows {sources.index(sources[row])} and {row} of the student's W+ differ, and both are row {sources[row]} "
            "of the generator: set the one that shall hold in both."
        )
    return rows


def student_noise(noises: Sequence[Float[Tensor, "B 1 r r"]]) -> list[Tensor]:
    """The student's noise, level by level, of a generator's noise images, so that both draw with the same randomness.

    Images of one sample are shared by the student's batch, (1, 1, 4, 4) and (2, 1, r, r); those of B samples become
    (1, B, 1, 4, 4) and (2, B, 1, r, r). The two at full resolution are left out: the student has no layer there.
    """
    pairs = [torch.stack(list(pair)) for pair in zip(noises[1:-2:2], noises[2:-2:2], strict=True)]
    return [noises[0][None], *pairs] if noises[0].shape[0] > 1 else [noises[0], *(pair[:, 0] for pair in pairs)]


def _sources(blocks: int) -> list[int]:
    """The generator's row for each of the student's."""
    return [0] + [2 * (row // 3) + 1 + row % 3 for row in range(3 * blocks + 1)]
