"""A split under which no cell is counted in a truth that is learnt from and in one that judges."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph import _keys
from stgraph.graph.nearest import TIE
from stgraph.tasks.folds import Fold, Masks, Split


@dataclass
class Apart:
    """A split less the cells that are learnt from and lie too near to a judged one.

    Where the truth about a cell is made of the cells up to a radius away, two cells less
    than two radii apart share some of it. The margin of a split between blocks may be
    narrower than that; here what is missing is left out of what is learnt from and of what
    chooses. A split that leaks stays as it is: it is marked so in the tables.

    Parameters
    ----------
    split
        What divides the cells.
    reaches
        By slice, the radius of the truth, in the unit of ``obsm["spatial"]``.

    Attributes
    ----------
    notes
        What was left out of each fold, once `folds` was called.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.apart import Apart
    >>> from stgraph.tasks.splits import SpatialBlocks
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]}
    >>> near, far = SpatialBlocks().folds(slices)[0], Apart(SpatialBlocks(), {"a": 40.0}).folds(slices)[0]
    >>> bool(far.train["a"].sum() < near.train["a"].sum())
    True
    """

    split: Split
    reaches: Mapping[str, float]
    notes: list[str] = field(default_factory=list, init=False, repr=False)

    @property
    def name(self) -> str:
        """Name in tables: that of the split."""
        return self.split.name

    @property
    def leaks(self) -> bool:
        """Whether the split does."""
        return self.split.leaks

    def folds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> list[Fold]:
        """The folds of canonical slices, by name."""
        folds = self.split.folds(slices, random_state=random_state)
        self.notes = []
        if self.split.leaks:
            self.notes.append("learnt and judged cells have neighbours in common, as the split leaks")
            return folds
        return [self._apart(fold, slices) for fold in folds]

    def _apart(self, fold: Fold, slices: Mapping[str, AnnData]) -> Fold:
        near = {name: self._near_judged(name, mask, slices[name]) for name, mask in fold.test.items()}

        def without(masks: Masks) -> dict[str, NDArray[np.bool_]]:
            left = {name: mask & ~near[name] if name in near else mask for name, mask in masks.items()}
            return {name: mask for name, mask in left.items() if mask.any()}

        new = replace(fold, train=without(fold.train), validation=without(fold.validation))
        before, after = (sum(int(m.sum()) for m in f.train.values()) for f in (fold, new))
        if after < before:
            self.notes.append(
                f"fold '{fold.name}': {before - after} of {before} training cells share neighbours with judged ones "
                "and were left out"
            )
        return new

    def _near_judged(self, name: str, test: NDArray[np.bool_], adata: AnnData) -> NDArray[np.bool_]:
        pos = np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
        distance = cKDTree(pos[test]).query(pos)[0]
        return np.asarray(distance <= 2 * self.reaches[name] * (1 + TIE))
