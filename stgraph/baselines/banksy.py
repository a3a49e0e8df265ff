"""A cell's own genes beside those of its surroundings and their gradient, as BANKSY has them."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import instantiate
from stgraph.baselines.azimuthal import azimuthal_weights
from stgraph.baselines.nearest_graphs import in_rows
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.graph.spatial_order import spatial_order
from stgraph.preprocess.gene_values import GeneValues, LogValues, centred, moments, most_variable, warn_of_missing
from stgraph.preprocess.scaled_pca import ScaledPCA

_ROWS = 2**12
"""Cells whose features are made at once."""

_MU = 1.5
"""Sum of the weights of the harmonics, 1 and 1/2."""


@dataclass
class Banksy:
    """Principal components of a cell's own genes, the mean of its neighbours', and their gradient [1]_.

    The mean is weighted by distance; the gradient is the magnitude of the azimuthal Gabor
    filter, the first harmonic around the cell. Each gene is scaled to unit variance in each of
    the three, by its mean and variance in the training slices, and the three are weighted by
    the square roots of ``1 - lambda_``, ``lambda_ / 1.5`` and ``lambda_ / 3``.

    Parameters
    ----------
    lambda_
        Share of the surroundings, 0 to 1: 0.2 to tell cell types, 0.8 to find domains.
    n_neighbors
        Cells in a mean; the gradient looks at twice as many. The cell itself is not counted.
    n_top_genes
        Genes kept, by variance.
    n_components
        C; fewer if there are fewer genes.
    values
        What to take for a gene; its config will do.

    References
    ----------
    .. [1] Singhal, V. et al. BANKSY unifies cell typing and tissue domain segmentation for
       scalable spatial omics data analysis. Nature Genetics 56, 431-441 (2024).

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import Banksy
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> Banksy(lambda_=0.8).fit([tissue]).transform(tissue).shape
    (200, 20)
    """

    lambda_: float = 0.2
    n_neighbors: int = 15
    n_top_genes: int = 1000
    n_components: int = 20
    values: GeneValues | Mapping[str, Any] = field(default_factory=LogValues)
    _fitted: GeneValues | None = field(default=None, init=False, repr=False, compare=False)
    _reduce: ScaledPCA = field(init=False, repr=False, compare=False)
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.values = instantiate(self.values)
        for name in ("n_neighbors", "n_top_genes", "n_components"):
            check_whole(self, name)
        if not 0 <= self.lambda_ <= 1:
            raise InputError(f"Banksy needs a lambda_ from 0 to 1, not {self.lambda_!r}.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Find genes, their scales and components.

        Raises
        ------
        InputError
            If the slices share too few genes, or their counts do not vary.
        """
        values: GeneValues = copy.deepcopy(self.values).fit(slices)  # type: ignore[union-attr]
        mean, variance = moments(values, slices, np.arange(len(values.genes)))
        top = most_variable(variance, self.n_top_genes)
        self._fitted, self._arrays = values, {"top": top, "mean": mean[top]}
        share = np.repeat([1 - self.lambda_, self.lambda_ / _MU, self.lambda_ / (2 * _MU)], len(top))
        self._reduce = ScaledPCA(self.n_components).fit(
            (block for adata in slices for _, block in self._features(adata)), np.sqrt(share)
        )
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one slice; genes it lacks count as average, with a `StgraphWarning`."""
        if self._fitted is None:
            raise InputError("Banksy was not fitted: call fit(slices) first.")
        features = in_rows(((rows, self._reduce(block)) for rows, block in self._features(adata)), adata.n_obs)
        warn_of_missing(adata, [self._fitted.genes[column] for column in self._arrays["top"]])
        return features

    def _features(self, adata: AnnData) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Own genes, mean and gradient side by side, for blocks of cells."""
        a = self._arrays
        x = np.concatenate([centred(block, a["mean"]) for block in self._fitted.blocks(adata, a["top"])])  # type: ignore[union-attr]
        pos = adata.obsm[_keys.SPATIAL]
        mean, real, imaginary = azimuthal_weights(pos, self.n_neighbors)
        order = spatial_order(pos)  # the genes of neighbours are then still at hand
        for start in range(0, len(x), _ROWS):
            rows = order[start : start + _ROWS]
            gradient = np.hypot(real[rows] @ x, imaginary[rows] @ x)
            yield rows, np.concatenate([x[rows], mean[rows] @ x, gradient], axis=1)
