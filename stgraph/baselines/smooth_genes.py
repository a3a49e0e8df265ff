"""The genes whose expression a place in the tissue tells most about."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import instantiate
from stgraph.baselines.nearest_graphs import mean_over, nearest_graphs
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.preprocess.gene_values import GeneValues, LogValues, centred, moments, warn_of_missing

_BLOCK = 2**25
"""Values of genes looked at at once."""


@dataclass
class SmoothGenes:
    """Values of the spatially smoothest genes, centred by their mean in training.

    A gene is as smooth as the share of its variance within slices that the mean of its
    nearest cells explains. Such genes follow regions of the tissue; the most variable
    ones often follow single cells, or noise.

    Parameters
    ----------
    n_genes
        C, genes kept; all that vary if there are fewer.
    values
        What to take for a gene: `stgraph.preprocess.gene_values.LogValues`, or
        `stgraph.preprocess.pearson.PearsonResiduals`; its config will do.
    n_neighbors
        Nearest cells that explain a cell.

    Attributes
    ----------
    genes
        The genes kept, once fitted, in the order of the slices.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import SmoothGenes
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> SmoothGenes(n_genes=10).fit([tissue]).transform(tissue).shape
    (200, 10)
    """

    n_genes: int = 1000
    values: GeneValues | Mapping[str, Any] = field(default_factory=LogValues)
    n_neighbors: int = 6
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    _fitted: GeneValues | None = field(default=None, init=False, repr=False, compare=False)
    _columns: NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, dtype=np.int64), init=False, repr=False, compare=False
    )
    _mean: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.values = instantiate(self.values)
        check_whole(self, "n_genes")
        check_whole(self, "n_neighbors")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Find the genes.

        Raises
        ------
        InputError
            If the slices share too few genes, or their counts do not vary.
        """
        values: GeneValues = copy.deepcopy(self.values).fit(slices)  # type: ignore[union-attr]
        smooth = smoothness(values, slices, n_neighbors=self.n_neighbors)
        columns = np.sort(np.argsort(-smooth, kind="stable")[: self.n_genes])
        columns = columns[smooth[columns] >= 0]
        if len(columns) == 0:
            raise InputError("No gene varies between cells, so there is nothing to learn from.")
        self._fitted, self._columns = values, columns
        self._mean = moments(values, slices, columns)[0]
        self.genes = [values.genes[column] for column in columns]
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Values (N, C) of the genes in one slice; those it lacks count as average, and a `StgraphWarning` says so."""
        if self._fitted is None:
            raise InputError("SmoothGenes was not fitted: call fit(slices) first.")
        blocks = [centred(block, self._mean) for block in self._fitted.blocks(adata, self._columns)]
        warn_of_missing(adata, self.genes)
        return np.concatenate(blocks)


def smoothness(values: GeneValues, slices: Sequence[AnnData], *, n_neighbors: int = 6) -> NDArray[np.float64]:
    """Share of the variance of each gene that the mean of the nearest cells explains, all slices together.

    Parameters
    ----------
    values
        Fitted.
    slices
        What to look at; they have all its genes.
    n_neighbors
        Nearest cells, the cell itself not counted.

    Returns
    -------
    ndarray
        (G,) from 0 to 1, 0 too where cells are unlike their neighbours; -1 for a gene that
        does not vary.
    """
    g = len(values.genes)
    own, around, both = np.zeros(g), np.zeros(g), np.zeros(g)
    varies = np.zeros(g, dtype=bool)
    for adata in slices:
        (near,) = nearest_graphs(adata.obsm[_keys.SPATIAL], [n_neighbors])
        step = max(_BLOCK // max(adata.n_obs, 1), 1)
        for start in range(0, g, step):
            columns = np.arange(start, min(start + step, g))
            x = np.concatenate(list(values.blocks(adata, columns)))
            varies[columns] |= np.ptp(x, axis=0) > 1e-6 * np.abs(x).max(axis=0)
            x -= x.mean(axis=0)
            mean = mean_over(near, x, include_self=False)
            mean -= mean.mean(axis=0)
            for total, a, b in ((own, x, x), (around, mean, mean), (both, x, mean)):
                total[columns] += np.einsum("ng,ng->g", a, b, dtype=np.float64)
    explained = np.maximum(both, 0) ** 2 / np.maximum(own * around, 1e-300)
    return np.where(varies, explained, -1.0)
