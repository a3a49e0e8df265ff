"""Features averaged over the nearest cells: the strongest simple description of a place in tissue."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import instantiate
from stgraph.baselines.base import SliceEncoder
from stgraph.baselines.nearest_graphs import check_sizes, mean_blocks, mean_over, nearest_graphs
from stgraph.errors import InputError
from stgraph.graph.spatial_order import spatial_order
from stgraph.preprocess.encoder import LogPCA


def neighbor_mean(x: NDArray[np.floating], pos: NDArray[np.float64], *, n_neighbors: int = 30) -> NDArray[np.float64]:
    """Mean feature over the nearest cells of each cell, itself included.

    Cells that tie with the farthest of them count too, as in `stgraph.graph.builders.KNN`.
    On principal components this is the strongest simple description of a spatial domain.

    Parameters
    ----------
    x
        (N, C) features of one slice.
    pos
        (N, 2) positions.
    n_neighbors
        Cells in a mean, the cell itself counted; all of them if there are fewer.

    Returns
    -------
    ndarray
        (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.baselines.neighbor_mean import neighbor_mean
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    >>> neighbor_mean(np.array([[1.0], [3.0], [8.0]]), pos, n_neighbors=2).ravel()
    array([2. , 2. , 5.5])
    """
    values = np.asarray(x, dtype=np.float64)
    (near,) = nearest_graphs(pos, [n_neighbors - 1])
    return np.asarray(mean_over(near, values, include_self=True))


@dataclass
class NeighborMean:
    """What an encoder says of cells, averaged over each cell and its nearest, at one size or several.

    Parameters
    ----------
    encoder
        Describes cells; its config will do.
    n_neighbors
        Cells in a mean, the cell itself counted, as in `neighbor_mean`; the means of
        several sizes stand side by side.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import NeighborMean
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> NeighborMean(n_neighbors=(7, 31)).fit([tissue]).transform(tissue).shape
    (200, 40)
    """

    encoder: SliceEncoder | Mapping[str, Any] = field(default_factory=lambda: LogPCA(whiten=False))
    n_neighbors: int | Sequence[int] = 30
    _fitted: SliceEncoder | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.encoder = instantiate(self.encoder)
        if isinstance(self.n_neighbors, Sequence):
            self.n_neighbors = tuple(self.n_neighbors)
        check_sizes(self)

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn the encoder of cells; see `stgraph.baselines.base.SliceEncoder`."""
        self._fitted = copy.deepcopy(self.encoder).fit(slices)  # type: ignore[union-attr]
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C x number of sizes) of the cells of one slice."""
        if self._fitted is None:
            raise InputError(f"{type(self).__name__} was not fitted: call fit(slices) first.")
        x = self._fitted.transform(adata)
        pos = adata.obsm[_keys.SPATIAL]
        graphs = nearest_graphs(pos, [k - 1 for k in self._sizes()])
        out = np.empty((len(x), len(graphs) * x.shape[1]), dtype=np.float32)
        for rows, means in mean_blocks(graphs, x, spatial_order(pos), include_self=True):
            out[rows] = means
        return out

    def _sizes(self) -> tuple[int, ...]:
        return tuple(self.n_neighbors) if isinstance(self.n_neighbors, Sequence) else (self.n_neighbors,)


@dataclass
class NeighborPCA(NeighborMean):
    """`NeighborMean` as it comes: 20 components of log counts, not whitened, over 30 cells.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import NeighborPCA
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> NeighborPCA().fit([tissue]).transform(tissue).shape
    (200, 20)
    """
