"""What its surroundings say about a cell: regression on neighbour means, of low rank."""

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
from stgraph.baselines.nearest_graphs import check_sizes, in_rows, mean_blocks, nearest_graphs
from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.graph.spatial_order import spatial_order
from stgraph.preprocess.encoder import LogPCA


@dataclass
class ReducedRankNeighbors:
    """Features of a cell as its neighbours predict them, without itself, along the directions predicted best.

    Whitened components of each cell are regressed on the means of its 6, 18 and 50
    nearest (ridge), and the fitted values are reduced to their principal components:
    reduced-rank regression [1]_, the closed form of a masked-cell model.

    Parameters
    ----------
    encoder
        Describes single cells, best whitened; its config will do.
    n_neighbors
        Sizes of the neighbourhoods, the cell itself not counted; in a smaller slice all
        other cells.
    rank
        C, directions kept; fewer if the encoder has fewer.
    alpha
        Ridge penalty, in cells: a predictor's sum of squares is raised by so many units.

    References
    ----------
    .. [1] Izenman, A. J. Reduced-rank regression for the multivariate linear model.
       Journal of Multivariate Analysis 5, 248-264 (1975).

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import ReducedRankNeighbors
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> ReducedRankNeighbors().fit([tissue]).transform(tissue).shape
    (200, 10)
    """

    encoder: SliceEncoder | Mapping[str, Any] = field(default_factory=LogPCA)
    n_neighbors: Sequence[int] = (6, 18, 50)
    rank: int = 10
    alpha: float = 1.0
    _fitted: SliceEncoder | None = field(default=None, init=False, repr=False, compare=False)
    _mean: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False, repr=False, compare=False)
    _weight: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.encoder = instantiate(self.encoder)
        self.n_neighbors = tuple(self.n_neighbors)
        check_whole(self, "rank")
        check_positive(self, "alpha")
        check_sizes(self)

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn the encoder and the regression; see `stgraph.baselines.base.SliceEncoder`."""
        encoder: SliceEncoder = copy.deepcopy(self.encoder).fit(slices)  # type: ignore[union-attr]
        own = [encoder.transform(adata) for adata in slices]
        around = [self._around(x, adata) for x, adata in zip(own, slices, strict=True)]
        n = sum(len(x) for x in own)
        mean_own = sum(x.sum(axis=0, dtype=np.float64) for x in own) / n
        mean_around = sum(m.sum(axis=0, dtype=np.float64) for m in around) / n
        gram = sum(m.T.astype(np.float64) @ m for m in around) - n * np.outer(mean_around, mean_around)
        cross = sum(m.T.astype(np.float64) @ x for m, x in zip(around, own, strict=True)) - n * np.outer(
            mean_around, mean_own
        )
        weight = np.linalg.solve(gram + self.alpha * np.eye(len(gram)), cross)
        # Principal axes of the fitted values, from their covariance.
        value, axes = np.linalg.eigh(weight.T @ gram @ weight)
        axes = axes[:, ::-1][:, : min(self.rank, len(value))]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        self._fitted, self._mean, self._weight = encoder, mean_around, weight @ axes
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one slice."""
        if self._fitted is None:
            raise InputError("ReducedRankNeighbors was not fitted: call fit(slices) first.")
        around = self._around(self._fitted.transform(adata), adata)
        return np.asarray((around - self._mean) @ self._weight, dtype=np.float32)

    def _around(self, x: NDArray[np.float32], adata: AnnData) -> NDArray[np.float32]:
        pos = adata.obsm[_keys.SPATIAL]
        graphs = nearest_graphs(pos, self.n_neighbors)
        return in_rows(mean_blocks(graphs, x, spatial_order(pos), include_self=False), len(x))
