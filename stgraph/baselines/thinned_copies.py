"""An encoder that also learns from shallower copies of its slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import instantiate
from stgraph.baselines.advice import WHOLE, HasViews, views_of
from stgraph.errors import InputError
from stgraph.preprocess.thinning import check_share, thin_counts


@dataclass
class WithThinnedCopies:
    """Fit any encoder on slices and on copies with a share of their counts.

    A head on it learns from the copies too. So both have seen shallow cells before they
    meet a shallow slice. Unlike scaling each slice by itself, which cancels a change of
    depth too, it does not depend on which tissue a slice happens to hold.

    Parameters
    ----------
    encoder
        What is fitted, in place; its config will do.
    shares
        Share of the counts that each copy of a slice keeps.
    random_state
        Seed of the thinning; each copy has noise of its own.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines.thinned_copies import WithThinnedCopies
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)
    >>> WithThinnedCopies(LogPCA(n_components=8)).fit(tissue).transform(tissue[0]).shape
    (200, 8)
    """

    encoder: Any
    shares: Sequence[float] = (0.5, 0.25)
    random_state: int = 0

    def __post_init__(self) -> None:
        self.encoder = instantiate(self.encoder)
        for share in self.shares:
            check_share(share, "WithThinnedCopies")
        if not self.shares or len(set(self.shares)) < len(self.shares):
            raise InputError(f"WithThinnedCopies needs at least one share, each once, not {list(self.shares)}.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Fit the encoder on the slices, followed by their copies."""
        self.encoder.fit([*slices, *thinned_copies(slices, self.shares, self.random_state)])
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one canonical slice, whose counts are not thinned."""
        described: NDArray[np.float32] = self.encoder.transform(adata)
        return described

    def copies(self, adata: AnnData) -> list[AnnData]:
        """Thinned copies of one slice, for a head to learn from too."""
        return thinned_copies([adata], self.shares, self.random_state)

    @property
    def unguided(self) -> str:
        """As of the encoder."""
        return str(self.encoder.unguided) if isinstance(self.encoder, HasViews) else WHOLE

    def views(self) -> Mapping[str, slice]:
        """As of the encoder."""
        return views_of(self.encoder)


def thinned_copies(slices: Sequence[AnnData], shares: Sequence[float], random_state: int = 0) -> list[AnnData]:
    """A copy of each slice for each share of its counts.

    Parameters
    ----------
    slices
        Canonical slices, each one section; they are not changed.
    shares
        Share of the counts that is kept.
    random_state
        Seed.

    Returns
    -------
    list of AnnData
        ``slice_id`` ends in ``_thinned_`` and the share.

    Raises
    ------
    InputError
        If a slice is already called so.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.baselines.thinned_copies import thinned_copies
    >>> tissue = stgraph.synthetic_tissue(n_cells=100, n_genes=60)
    >>> [str(adata.obs["slice_id"].iloc[0]) for adata in thinned_copies(tissue, [0.5, 0.25])]
    ['synthetic_0_thinned_0.5', 'synthetic_0_thinned_0.25']
    """
    taken = {str(adata.obs[_keys.SLICE].iloc[0]) for adata in slices}
    copies = []
    for number, adata in enumerate(slices):
        for which, share in enumerate(shares):
            seed = np.random.SeedSequence((random_state, number, which)).generate_state(1)[0]
            copy = thin_counts(adata, share, int(seed))
            name = f"{adata.obs[_keys.SLICE].iloc[0]}_thinned_{share!r}"
            if name in taken:
                raise InputError(f"A slice is already called '{name}', the name of a thinned copy: rename it.")
            copy.obs[_keys.SLICE] = pd.Categorical([name] * copy.n_obs)
            copies.append(copy)
    return copies
