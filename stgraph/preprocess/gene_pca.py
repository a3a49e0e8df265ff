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
from stgraph.preprocess.gene_values import GeneValues, LogValues, centred, moments, most_variable, warn_of_missing
from stgraph.preprocess.named_arrays import check_fit, check_names
from stgraph.preprocess.streamed_pca import principal_axes

_OF_VALUES = "values."
"""What the arrays of the values are called by in the state, before their own names."""


@dataclass
class GenePCA:
    """Principal components of the most variable genes; the features of a cell depend on no other cell of its slice.

    `stgraph.preprocess.encoder.LogPCA` centres each slice by its own mean. That forgives a
    change of depth, and moves all features where a slice is composed otherwise than those
    learnt from, as half a slice is; here it is the other way round. Cells are looked at in
    blocks: memory does not grow with their number.

    Parameters
    ----------
    n_top_genes
        Genes kept, by their variance within slices.
    n_components
        C; fewer if there are fewer genes.
    values
        What to take for a gene; its config will do.
    whiten
        Scale each component to unit variance over the training cells.

    Attributes
    ----------
    genes
        Genes the depth is counted over: those all training slices share.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.gene_pca import GenePCA
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> GenePCA(n_components=8).fit([tissue]).transform(tissue).shape
    (200, 8)
    """

    n_top_genes: int = 2000
    n_components: int = 20
    values: GeneValues | Mapping[str, Any] = field(default_factory=LogValues)
    whiten: bool = field(default=False, kw_only=True)
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    _fitted: GeneValues | None = field(default=None, init=False, repr=False, compare=False)
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.values = instantiate(self.values)
        for number in (self.n_top_genes, self.n_components):
            if not isinstance(number, int | np.integer) or number < 1:
                raise InputError(f"{type(self).__name__} needs positive, whole n_top_genes and n_components.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Find genes and components.

        Parameters
        ----------
        slices
            Canonical slices, each one section.

        Returns
        -------
        GenePCA
            Itself.

        Raises
        ------
        InputError
            If the slices share too few genes, or their counts do not vary.
        """
        values = self._fresh_values().fit(slices)
        mean, variance = moments(values, slices, np.arange(len(values.genes)))
        top = most_variable(variance, self.n_top_genes)
        blocks = (centred(block, mean[top]) for adata in slices for block in values.blocks(adata, top))
        axes, scale = principal_axes(blocks, self.n_components)
        arrays = {"top": top, "mean": mean[top], "axes": axes, "scale": scale}
        self.genes, self._fitted, self._arrays = values.genes, values, arrays
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Features of one slice.

        Parameters
        ----------
        adata
            One canonical slice. Genes it lacks count as average, and a
            `StgraphWarning` says how many they are.

        Returns
        -------
        ndarray
            (N, C) float32.

        Raises
        ------
        InputError
            If the slice has too few of the encoder's genes.
        """
        values, a = self._learnt(), self._arrays
        axes = (a["axes"] / a["scale"][:, None] if self.whiten else a["axes"]).T.astype(np.float32)
        features = [centred(block, a["mean"]) @ axes for block in values.blocks(adata, a["top"])]
        warn_of_missing(adata, [self.genes[column] for column in a["top"]])
        return np.concatenate(features)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays; those of the values have "values." before their names."""
        of_values = self._learnt().state()
        return {_OF_VALUES + name: array for name, array in of_values.items()} | self._arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        """
        arrays = {name: array for name, array in state.items() if not name.startswith(_OF_VALUES)}
        check_names(self, arrays, {"top", "mean", "axes", "scale"})
        values = self._fresh_values().load_state(
            {name.removeprefix(_OF_VALUES): array for name, array in state.items() if name not in arrays}
        )
        top, c = arrays["top"], len(arrays["scale"])
        fits = arrays["axes"].shape == (c, len(top)) and arrays["mean"].shape == top.shape == (len(top),)
        known = np.isin(top, np.arange(len(values.genes))).all() and top.dtype.kind == "i"
        check_fit(self, bool(fits and known and arrays["scale"].shape == (c,)))
        self.genes, self._fitted, self._arrays = values.genes, values, arrays
        return self

    def _fresh_values(self) -> GeneValues:
        """Values to learn with; the argument stays as it was given."""
        values: GeneValues = copy.deepcopy(self.values)  # type: ignore[assignment]
        return values

    def _learnt(self) -> GeneValues:
        if self._fitted is None:
            raise InputError(f"{type(self).__name__} was not fitted: call fit(slices) first.")
        return self._fitted
