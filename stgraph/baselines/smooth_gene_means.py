"""Spatially smooth genes, averaged over several sizes: the strongest simple description of a region."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import instantiate
from stgraph.baselines.nearest_graphs import check_sizes, in_rows, mean_blocks, nearest_graphs
from stgraph.baselines.smooth_genes import SmoothGenes
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.graph.spatial_order import spatial_order
from stgraph.preprocess.gene_values import GeneValues, LogValues
from stgraph.preprocess.scaled_pca import ScaledPCA


@dataclass
class SmoothGeneMeans:
    """Components of the spatially smoothest genes, averaged over small, middling and large neighbourhoods.

    Made for discriminant analysis with shrinkage. Means of 1000 genes at three sizes are
    3000 columns; they are scaled by their variance in the training slices, never by that of
    the slice described, and reduced to principal components, which costs no accuracy and
    makes heads many times faster. `NeighborMean` of `SmoothGenes` is the same without that.

    Parameters
    ----------
    n_genes, values
        As in `SmoothGenes`.
    n_neighbors
        Cells in a mean, the cell itself counted, for each size.
    n_components
        C; fewer if there are fewer cells or genes.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import SmoothGeneMeans
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> SmoothGeneMeans(n_components=30).fit([tissue]).transform(tissue).shape
    (200, 30)
    """

    n_genes: int = 1000
    values: GeneValues | Mapping[str, Any] = field(default_factory=LogValues)
    n_neighbors: Sequence[int] = (6, 36, 90)
    n_components: int = 200
    _genes: SmoothGenes | None = field(default=None, init=False, repr=False, compare=False)
    _reduce: ScaledPCA = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.values = instantiate(self.values)
        self.n_neighbors = tuple(self.n_neighbors)
        check_whole(self, "n_genes")
        check_whole(self, "n_components")
        check_sizes(self)

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Find the genes, their scales and components; see `stgraph.baselines.base.SliceEncoder`."""
        self._genes = SmoothGenes(self.n_genes, self.values).fit(slices)
        self._reduce = ScaledPCA(self.n_components).fit(means for adata in slices for _, means in self._means(adata))
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one slice; genes it lacks count as average, with a `StgraphWarning`."""
        return in_rows(((rows, self._reduce(means)) for rows, means in self._means(adata)), adata.n_obs)

    def _means(self, adata: AnnData) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        if self._genes is None:
            raise InputError("SmoothGeneMeans was not fitted: call fit(slices) first.")
        pos = adata.obsm[_keys.SPATIAL]
        graphs = nearest_graphs(pos, [k - 1 for k in self.n_neighbors])
        return mean_blocks(graphs, self._genes.transform(adata), spatial_order(pos), include_self=True)
