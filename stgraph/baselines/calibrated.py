"""A description of cells as it would be had they been measured as well as those learnt from."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import instantiate
from stgraph.baselines.advice import WHOLE, HasViews, views_of
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.preprocess.genes import align_counts, shared_genes
from stgraph.preprocess.thinning import thin_counts

_STEPS = 4
"""Depths are told apart by quarters of an octave, so that slices of like depth share a map."""


@dataclass
class Calibrated:
    """Any encoder, with what shallower counts or missing genes do to its description undone.

    A slice that holds fewer counts for each cell than those learnt from, or fewer genes, is
    described otherwise for that alone: means of logarithms shift and components shrink. How
    much is known, for the training slices can be measured as badly: they are thinned to the
    depth of the new slice, cut to its genes and described again, and a ridge regression from
    this description of each cell to the one in full is applied to the new slice. Unlike
    scaling a slice by itself it does not depend on which tissue the slice holds, and unlike
    training on thinned copies it changes nothing for slices as deep as those learnt from.
    On the two DLPFC slices at 30 % of their depth, macro F1 of regions rose from .63 to .80
    and from .80 to .81 (in full: .81 and .83).

    Parameters
    ----------
    encoder
        What describes; its config will do.
    alpha
        Strength of the regression, in mean variances of a column.
    max_cells
        Training cells the regression is learnt from, at most: whole slices in their order,
        at least one.
    random_state
        Seed of the thinning.

    Examples
    --------
    >>> import numpy as np
    >>> import stgraph
    >>> from stgraph.baselines import Calibrated, GenePCA
    >>> from stgraph.preprocess.thinning import thin_counts
    >>> tissue = stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]
    >>> encoder = Calibrated(GenePCA(n_components=4)).fit([tissue])
    >>> shallow, full = encoder.transform(thin_counts(tissue, 0.3)), encoder.transform(tissue)
    >>> bool(np.corrcoef(shallow[:, 0], full[:, 0])[0, 1] > 0.7)
    True
    """

    encoder: Any
    alpha: float = 1e-3
    max_cells: int = 50_000
    random_state: int = 0
    _slices: list[AnnData] = field(default_factory=list, init=False, repr=False, compare=False)
    _genes: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    _maps: dict[tuple[int, str], list["_Map"]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.encoder = instantiate(self.encoder)
        check_positive(self, "alpha")
        check_whole(self, "max_cells")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Fit the encoder, and keep slices: they are measured worse when such a slice comes."""
        self.encoder.fit(slices)
        self._slices, self._maps, n_cells = [], {}, 0
        for adata in slices:
            if self._slices and n_cells + adata.n_obs > self.max_cells:
                break
            self._slices.append(adata)
            n_cells += adata.n_obs
        self._genes = shared_genes(slices, min_genes=1)
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of one slice, as at the depth and with the genes of the training slices."""
        if not self._slices:
            raise InputError("Calibrated was not fitted: call fit(slices) first.")
        x: NDArray[np.float32] = self.encoder.transform(adata)
        known = set(adata.var_names)
        genes = [gene for gene in self._genes if gene in known]
        deep = np.median(np.concatenate([_depth(each, genes) for each in self._slices]))
        own = np.median(_depth(adata, genes))
        # A slice that is deeper is described well as it is.
        steps = max(0, round(-_STEPS * float(np.log2(own / deep)))) if min(own, deep) > 0 else 0
        if steps == 0 and len(genes) == len(self._genes):
            return x
        key = (steps, "\n".join(genes))
        if key not in self._maps:
            self._maps[key] = self._learn(2 ** (-steps / _STEPS), genes)
        out = x.astype(np.float64)
        for each in self._maps[key]:
            out[:, each.columns] = (x[:, each.columns] - each.shallow) @ each.weight + each.full
        return out.astype(np.float32)

    @property
    def unguided(self) -> str:
        """As of the encoder."""
        return str(self.encoder.unguided) if isinstance(self.encoder, HasViews) else WHOLE

    def views(self) -> Mapping[str, slice]:
        """As of the encoder."""
        return views_of(self.encoder)

    def _learn(self, share: float, genes: list[str]) -> list["_Map"]:
        """Regressions from measured worse to in full, one for each view, so that views stay what they are."""
        shallow, full = [], []
        with warnings.catch_warnings():
            # Genes a new slice lacks were told of when it was described.
            warnings.simplefilter("ignore", StgraphWarning)
            for number, adata in enumerate(self._slices):
                seed = np.random.SeedSequence((self.random_state, number)).generate_state(1)[0]
                panel = adata if len(genes) == adata.n_vars else adata[:, genes].copy()
                shallow.append(self.encoder.transform(thin_counts(panel, share, int(seed))))
                full.append(self.encoder.transform(adata))
        x, y = (np.concatenate(each).astype(np.float64) for each in (shallow, full))
        views = views_of(self.encoder)
        # The smallest ones, which the others are made of.
        parts = [columns for name, columns in views.items() if not _is_made_of_others(name, views)]
        return [_Map.learnt(columns, x[:, columns], y[:, columns], self.alpha) for columns in parts]


@dataclass(frozen=True)
class _Map:
    """A linear map of some columns."""

    columns: slice
    shallow: NDArray[np.float64]
    full: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def learnt(cls, columns: slice, x: NDArray[np.float64], y: NDArray[np.float64], alpha: float) -> "_Map":
        shallow, full = x.mean(axis=0), y.mean(axis=0)
        a = x - shallow
        gram = a.T @ a
        ridge = alpha * max(float(np.trace(gram)) / len(gram), 1e-12)
        return cls(columns, shallow, full, np.linalg.solve(gram + ridge * np.eye(len(gram)), a.T @ (y - full)))


def _is_made_of_others(name: str, views: Mapping[str, slice]) -> bool:
    if name == WHOLE:
        return len(views) > 1
    return any(other.startswith(f"{name}.") for other in views)


def _depth(adata: AnnData, genes: list[str]) -> NDArray[np.float64]:
    return np.asarray(align_counts(adata, genes)[0].sum(axis=1), dtype=np.float64).ravel()
