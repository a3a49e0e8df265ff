"""Principal components centred by the training slices, so that no slice is described by its own mean."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import instantiate
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.preprocess.gene_values import GeneValues, LogValues, centred, moments, most_variable, warn_of_missing
from stgraph.preprocess.streamed_pca import principal_axes


@dataclass
class GenePCA:
    """Principal components of the most variable genes; the features of a cell depend on no other cell of its slice.

    `stgraph.preprocess.encoder.LogPCA` centres each slice by its own mean. That forgives a
    change of depth, and moves all features where a slice is composed otherwise than those
    learnt from, as half a slice is; here it is the other way round.

    Parameters
    ----------
    n_top_genes
        Genes kept, by their variance within slices.
    n_components
        C; fewer if there are fewer genes.
    values
        What to take for a gene; its config will do.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import GenePCA
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> GenePCA(n_components=8).fit([tissue]).transform(tissue).shape
    (200, 8)
    """

    n_top_genes: int = 2000
    n_components: int = 20
    values: GeneValues | Mapping[str, Any] = field(default_factory=LogValues)
    _fitted: GeneValues | None = field(default=None, init=False, repr=False, compare=False)
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.values = instantiate(self.values)
        check_whole(self, "n_top_genes")
        check_whole(self, "n_components")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Find genes and components.

        Raises
        ------
        InputError
            If the slices share too few genes, or their counts do not vary.
        """
        values: GeneValues = copy.deepcopy(self.values).fit(slices)  # type: ignore[union-attr]
        mean, variance = moments(values, slices, np.arange(len(values.genes)))
        top = most_variable(variance, self.n_top_genes)
        blocks = (centred(block, mean[top]) for adata in slices for block in values.blocks(adata, top))
        axes, _ = principal_axes(blocks, self.n_components)
        self._fitted, self._arrays = values, {"top": top, "mean": mean[top], "axes": axes.T.astype(np.float32)}
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Features (N, C) of one slice; genes it lacks count as average, with a `StgraphWarning`."""
        if self._fitted is None:
            raise InputError("GenePCA was not fitted: call fit(slices) first.")
        a = self._arrays
        features = [centred(block, a["mean"]) @ a["axes"] for block in self._fitted.blocks(adata, a["top"])]
        warn_of_missing(adata, [self._fitted.genes[column] for column in a["top"]])
        return np.concatenate(features)
