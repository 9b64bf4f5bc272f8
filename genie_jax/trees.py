"""Trees of arrays as flat named arrays, and back: the names that tensors have in files.

A name is the path of the leaf, joined by "/": `params/blocks/attention/query/kernel`. The way back goes by a tree of
the same structure (`jax.eval_shape` of what makes it), so that no order and no type of key is ever guessed.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

PyTree = Any


def leaf_name(path: tuple[Any, ...]) -> str:
    """The name of a leaf by its path as `jax.tree_util` gives it: keys, indices and field names joined by "/"."""
    return "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)


def flatten_tree(tree: PyTree) -> dict[str, np.ndarray]:
    """The leaves of a tree (dicts, lists, tuples, NamedTuples) as host arrays by their names.

    Raises:
        ValueError: two leaves have one name, such as those of the keys 1 and "1".
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    flat = {leaf_name(path): np.asarray(leaf) for path, leaf in leaves}
    if len(flat) < len(leaves):
        raise ValueError("Two leaves of the tree have the same name; use keys that differ as text.")
    return flat


def unflatten_tree(flat: Mapping[str, np.ndarray], like: PyTree, *, what: str = "the tree") -> PyTree:
    """The tree of the structure of `like` with the named arrays for leaves, as JAX arrays of `like`'s dtypes.

    Args:
        flat: name -> array, exactly the leaves of `like`.
        like: arrays or `jax.ShapeDtypeStruct`s.
        what: whose tensors these are, for the error.

    Raises:
        ValueError: an array is missing, left over, or of another shape; each is named.
    """
    expected = {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
    faults = [f"{name} is missing" for name in expected if name not in flat]
    faults += [f"{name} belongs to nothing" for name in flat if name not in expected]
    faults += [
        f"{name} has shape {flat[name].shape} in place of {tuple(leaf.shape)}"
        for name, leaf in expected.items()
        if name in flat and flat[name].shape != tuple(leaf.shape)
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(f"The tensors of {what} do not fit its config: {'; '.join(faults[:3])}{more}.")
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.numpy.asarray(flat[leaf_name(path)], dtype=leaf.dtype), like
    )
