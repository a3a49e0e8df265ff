"""Deconvolution by the likelihood of counts, with an effect of the platform on each gene."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.preprocess.signatures import marker_genes, type_profiles
from stgraph.tasks.poisson_weights import poisson_weights
from stgraph.tasks.simplex import shares_of

_BLOCK = 2**22
"""Values made dense at once."""

_PRIOR_COUNTS = 10.0
"""Counts that hold the effect of the platform on a rare gene near 1."""


@dataclass
class SignaturePoisson:
    """The likeliest numbers of cells of each type in a spot, given their mean counts.

    The count of gene g in spot s is Poisson with mean ``effect_g * sum_k cells_sk * profile_kg``,
    after RCTD. The effect of the platform on a gene is the ratio of its counts in all spots to
    what is expected of it, found in turn with the numbers of cells. Dispersion beyond Poisson,
    which RCTD has, is left out.

    Parameters
    ----------
    n_markers
        Genes used for each type, as `stgraph.preprocess.signatures.marker_genes` ranks them.
    platform_rounds
        How often the effect of the platform is found again; 0 where cells and spots are of
        one platform and there is none.

    References
    ----------
    D. M. Cable et al., "Robust decomposition of cell type mixtures in spatial
    transcriptomics", Nature Biotechnology 40, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.tasks.signature_poisson import SignaturePoisson
    >>> cells, types = sp.csr_matrix([[4, 0, 1], [0, 2, 1]]), np.array([0, 1])
    >>> method = SignaturePoisson(platform_rounds=0).fit(cells, types, 2)
    >>> method.proportions(sp.csr_matrix([[12, 2, 4]]), np.zeros((1, 2))).round(3)
    array([[0.75, 0.25]])
    """

    n_markers: int = 100
    platform_rounds: int = 0
    _genes: Any = field(default=None, init=False, repr=False)
    _profiles: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_whole(self, "n_markers")
        check_whole(self, "platform_rounds", 0)

    def fit(self, counts: sp.csr_matrix, types: NDArray[np.int64], n_types: int) -> Self:
        """Learn signatures; see `stgraph.tasks.deconvolver.Deconvolver`."""
        profiles = type_profiles(counts, types, n_types)
        self._genes = marker_genes(profiles, self.n_markers)
        self._profiles = profiles[:, self._genes]
        return self

    def proportions(self, counts: sp.csr_matrix, pos: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, K) shares in spots; positions are not looked at."""
        return shares_of(self.weights(counts))

    def weights(self, counts: sp.csr_matrix) -> NDArray[np.float64]:
        """(M, K) numbers of cells, up to one factor for all spots."""
        spots, profiles = self.adapted(counts)
        return _by_block(spots, profiles)

    def adapted(self, counts: sp.csr_matrix) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
        """Counts (M, g) of the used genes, and signatures (K, g) as the platform of the spots shows them."""
        if self._profiles is None:
            raise InputError(f"{type(self).__name__} was not fitted: call fit(counts, types, n_types) first.")
        spots, profiles = sp.csr_matrix(counts)[:, self._genes].astype(np.float64), self._profiles
        seen = np.asarray(spots.sum(axis=0)).ravel()
        effect = np.ones(len(self._genes))
        for _ in range(self.platform_rounds):
            expected = _by_block(spots, profiles * effect).sum(axis=0) @ profiles
            effect = (seen + _PRIOR_COUNTS) / (expected + _PRIOR_COUNTS)
        return spots, profiles * effect


def _by_block(spots: sp.csr_matrix, profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([poisson_weights(block, profiles) for block in _dense_blocks(spots)])


def _dense_blocks(spots: sp.csr_matrix) -> Iterator[NDArray[np.float64]]:
    step = max(_BLOCK // spots.shape[1], 1)
    for start in range(0, spots.shape[0], step):
        yield spots[start : start + step].toarray()
