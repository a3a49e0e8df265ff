"""Nothing about a cell, as an encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray


@dataclass(frozen=True)
class Constant:
    """One zero for each cell: a head on it can but predict the commonest class, or the mean.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import Constant
    >>> tissue = stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]
    >>> Constant().fit([tissue]).transform(tissue).shape
    (100, 1)
    """

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn nothing."""
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Zeros (N, 1)."""
        return np.zeros((adata.n_obs, 1), dtype=np.float32)
