"""A description that is computed once, though several folds ask for it."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.baselines.advice import WHOLE, HasViews, copies_of, views_of
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError
from stgraph.tasks.unlabelled import fingerprint


@dataclass
class Remembered:
    """Fits an encoder once for each set of slices, and describes each slice once with each fit.

    Slices are the same if their counts, genes, positions and names are. All descriptions
    are held in memory until this object is gone.

    Parameters
    ----------
    encoder
        What describes; it stays as it is, copies are fitted.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.remembered import Remembered
    >>> slices = stgraph.synthetic_tissue(n_cells=100, n_genes=60)
    >>> encoder = Remembered(LogPCA(n_components=4)).fit(slices)
    >>> encoder.transform(slices[0]) is encoder.transform(slices[0].copy())
    True
    """

    encoder: SliceEncoder
    _fitted: dict[tuple[str, ...], SliceEncoder] = field(default_factory=dict, init=False, repr=False)
    _described: dict[tuple[tuple[str, ...], str], NDArray[np.float32]] = field(
        default_factory=dict, init=False, repr=False
    )
    _now: tuple[str, ...] | None = field(default=None, init=False, repr=False)

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn from slices, unless that was done."""
        self._now = tuple(fingerprint(adata) for adata in slices)
        if self._now not in self._fitted:
            self._fitted[self._now] = deepcopy(self.encoder).fit(slices)
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) with the latest fit."""
        if self._now is None:
            raise InputError("Remembered was not fitted: call fit(slices) first.")
        key = (self._now, fingerprint(adata))
        if key not in self._described:
            self._described[key] = self._fitted[self._now].transform(adata)
        return self._described[key]

    @property
    def unguided(self) -> str:
        """As of the encoder."""
        return self.encoder.unguided if isinstance(self.encoder, HasViews) else WHOLE

    def views(self) -> Mapping[str, slice]:
        """As of the encoder, with the latest fit."""
        return views_of(self._fitted[self._now]) if self._now is not None else {WHOLE: slice(None)}

    def copies(self, adata: AnnData) -> list[AnnData]:
        """As of the encoder."""
        return copies_of(self.encoder, adata)
