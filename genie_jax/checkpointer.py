"""Checkpoints of JAX trees by Orbax, finished when `save` returns, restored bit for bit or not at all."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

PyTree = Any


def _describe(tree: PyTree) -> dict[str, list]:
    """Shape and dtype of every leaf by its path; a plain number by the name of its type."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)]
        if hasattr(leaf, "dtype")
        else type(leaf).__name__
        for path, leaf in leaves
    }


class Checkpointer:
    """Trees of arrays on disk by Orbax: `save` has finished when it returns, and a half-written folder never shows.

    Restoring demands the abstract tree (`jax.eval_shape` of what made it): without it Orbax returns dicts in an order
    of its own, which permutes stacked layers in silence. The shapes and dtypes are stored beside the arrays and
    compared, because Orbax casts dtypes and ignores the shapes of host arrays.
    """

    def __init__(self) -> None:
        self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())

    def save(self, path: str | Path, tree: PyTree) -> None:
        """Write `tree` (dicts, lists, tuples and NamedTuples of arrays and numbers) as the new folder `path`.

        Raises:
            ValueError: `path` exists (a checkpoint is written beside the old one and renamed, never over it), or an
                array of `tree` is empty.
        """
        target = Path(path).absolute()
        if target.exists():
            raise ValueError(f"{target} exists: save to a new folder and rename it, or remove the old one first.")
        description = {"leaves": _describe(tree)}
        self._orbax.save(target, args=ocp.args.StandardSave(tree), custom_metadata=description)

    def restore(self, path: str | Path, abstract_tree: PyTree) -> PyTree:
        """Read the tree that `save` wrote, bit for bit, in the structure of `abstract_tree`.

        Args:
            path: folder that `save` wrote.
            abstract_tree: the same tree with `jax.ShapeDtypeStruct` (or arrays, or plain numbers) for leaves.

        Raises:
            ValueError: a leaf is missing, too many, or of another shape or dtype than on disk; the leaf is named.
            FileNotFoundError: there is no such folder.
        """
        source = Path(path).absolute()
        if not source.is_dir():
            raise FileNotFoundError(f"{source} is not a checkpoint folder: give the folder that `save` wrote.")
        stored, asked = self._orbax.metadata(source).custom_metadata["leaves"], _describe(abstract_tree)
        for name in sorted(stored.keys() | asked.keys()):
            if stored.get(name) != asked.get(name):
                raise ValueError(
                    f"checkpoint {source}: {name} is {stored.get(name, 'absent')} on disk and "
                    f"{asked.get(name, 'absent')} in the tree asked for. Restore with the config that it was saved for."
                )
        # NumPy scalars are no restore targets for Orbax; their abstract form is.
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, np.generic) else leaf,
            abstract_tree,
        )
        return self._orbax.restore(source, args=ocp.args.StandardRestore(target))
