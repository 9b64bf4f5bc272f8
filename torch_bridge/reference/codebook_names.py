"""The fields of a codebook's state in vector-quantize-pytorch. Needs no such package."""

from collections.abc import Mapping

import numpy as np

NAMES = {
    "initted": "_codebook.initted",
    "cluster_size_K": "_codebook.cluster_size",
    "embed_avg_KD": "_codebook.embed_avg",
    "embed_KD": "_codebook.embed",
}


def codebook_state(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state_dict of the package's `VectorQuantize` for the fields of a `VQState` by name.

    The package has one more axis in front, for codebooks of several heads.
    """
    return {NAMES[name]: array if name == "initted" else array[None] for name, array in fields.items()}
