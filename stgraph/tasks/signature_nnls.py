"""Deconvolution by least squares without negative weights: the plain method."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import nnls

from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.preprocess.signatures import marker_genes, type_profiles
from stgraph.tasks.simplex import shares_of


@dataclass
class SignatureNNLS:
    """Non-negative least squares of the counts of a spot on the mean counts of types.

    Counts add up over the cells of a spot, logarithms do not, so both sides are counts. Each
    gene is divided by the root of its mean over types, for the variance of a count is about
    its mean: a few abundant genes would decide otherwise.

    Parameters
    ----------
    n_markers
        Genes used for each type, as `stgraph.preprocess.signatures.marker_genes` ranks them.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.tasks.signature_nnls import SignatureNNLS
    >>> cells, types = sp.csr_matrix([[4, 0, 1], [0, 2, 1]]), np.array([0, 1])
    >>> method = SignatureNNLS().fit(cells, types, 2)
    >>> method.proportions(sp.csr_matrix([[12, 2, 4]]), np.zeros((1, 2))).round(3)
    array([[0.75, 0.25]])
    """

    n_markers: int = 100
    _genes: Any = field(default=None, init=False, repr=False)
    _profiles: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_whole(self, "n_markers")

    def fit(self, counts: sp.csr_matrix, types: NDArray[np.int64], n_types: int) -> Self:
        """Learn signatures; see `stgraph.tasks.deconvolver.Deconvolver`."""
        profiles = type_profiles(counts, types, n_types)
        self._genes = marker_genes(profiles, self.n_markers)
        self._profiles = profiles[:, self._genes]
        return self

    def proportions(self, counts: sp.csr_matrix, pos: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, K) shares in spots; positions are not looked at."""
        if self._profiles is None:
            raise InputError("SignatureNNLS was not fitted: call fit(counts, types, n_types) first.")
        by = 1 / np.sqrt(self._profiles.mean(axis=0))
        design = (self._profiles * by).T
        spots = counts[:, self._genes].toarray() * by
        return shares_of(np.stack([nnls(design, spot)[0] for spot in spots]))
