"""Several descriptions side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import instantiate
from stgraph.baselines.advice import WHOLE, views_of
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError


@dataclass
class Joined:
    """Several encoders next to each other, none of which drowns another.

    Each block is centred and scaled as a whole, by the training slices together, so that its
    columns have a variance of 1 on average there; a slice is never scaled by itself. A head
    may be trained on all blocks or on one: which, validation cells decide.

    Parameters
    ----------
    encoders
        Encoders or their configs, by the name of their view.
    unguided
        The one that is taken where no label can choose, as in clustering.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines import GenePCA, Joined, NeighborMean
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> parts = {"around": NeighborMean(GenePCA(n_components=5), 20), "own": GenePCA(n_components=8)}
    >>> joined = Joined(parts, unguided="around").fit([tissue])
    >>> joined.transform(tissue).shape
    (200, 13)
    >>> joined.views()
    {'whole': slice(0, 13, None), 'around': slice(0, 5, None), 'own': slice(5, 13, None)}
    """

    encoders: Mapping[str, SliceEncoder | Mapping[str, Any]]
    unguided: str
    _centres: list[NDArray[np.float64]] = field(default_factory=list, init=False, repr=False, compare=False)
    _factors: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.encoders = {name: instantiate(encoder) for name, encoder in dict(self.encoders).items()}
        if len(self.encoders) < 2 or WHOLE in self.encoders:
            raise InputError(f"Joined needs two encoders at least, none called '{WHOLE}', not {list(self.encoders)}.")
        if self.unguided not in self.encoders:
            raise InputError(f"Joined has no encoder '{self.unguided}' to take unguided; it has {list(self.encoders)}.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Fit each encoder, and learn how its block is scaled."""
        self._centres, self._factors = [], []
        for encoder in self._parts():
            encoder.fit(slices)
            blocks = [encoder.transform(adata) for adata in slices]
            n = sum(len(block) for block in blocks)
            centre = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / n
            variance = sum(((block - centre) ** 2).sum(axis=0) for block in blocks) / n
            spread = float(np.sqrt(np.mean(variance)))
            self._centres.append(np.asarray(centre))
            self._factors.append(1 / spread if spread > 0 else 1.0)
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one canonical slice: all blocks, in order."""
        if not self._centres:
            raise InputError("Joined was not fitted: call fit(slices) first.")
        blocks = [
            (encoder.transform(adata) - centre) * factor
            for encoder, centre, factor in zip(self._parts(), self._centres, self._factors, strict=True)
        ]
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def views(self) -> dict[str, slice]:
        """Columns of the whole, of each encoder, and of the views an encoder has itself (``own.log``)."""
        if not self._centres:
            raise InputError("Joined was not fitted: call fit(slices) first.")
        ends = np.cumsum([0, *(len(centre) for centre in self._centres)]).tolist()
        views = {WHOLE: slice(0, ends[-1])}
        for first, last, (name, encoder) in zip(ends[:-1], ends[1:], self.encoders.items(), strict=True):
            views[name] = slice(first, last)
            for inner, columns in views_of(encoder).items():  # type: ignore[arg-type]
                if inner != WHOLE:
                    views[f"{name}.{inner}"] = slice(first + columns.start, first + columns.stop)
        return views

    def _parts(self) -> list[SliceEncoder]:
        return list(self.encoders.values())  # type: ignore[arg-type]
