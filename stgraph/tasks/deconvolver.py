"""The contract of what tells the composition of a spot from signatures of types."""

from typing import Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


class Deconvolver(Protocol):
    """Learns signatures from single cells, and finds their shares in spots."""

    def fit(self, counts: sp.csr_matrix, types: NDArray[np.int64], n_types: int) -> Self:
        """Learn from cells.

        Parameters
        ----------
        counts
            (N, G).
        types
            (N,) type of each cell, -1 for none.
        n_types
            K; a type without cells has no share in any spot.
        """
        ...

    def proportions(self, counts: sp.csr_matrix, pos: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares of the types in spots.

        Parameters
        ----------
        counts
            (M, G) of the spots of one slice, of the same genes.
        pos
            (M, 2) where they are.

        Returns
        -------
        ndarray
            (M, K) float64, rows of the simplex.
        """
        ...
