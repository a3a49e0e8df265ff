"""Principal components of scaled columns, for tables made a block of rows at a time."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stgraph.preprocess.streamed_pca import axes_of


@dataclass
class ScaledPCA:
    """Columns scaled to unit variance over the training rows, weighted, and their principal components.

    Parameters
    ----------
    n_components
        C; fewer if the table has fewer dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.scaled_pca import ScaledPCA
    >>> x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    >>> ScaledPCA(2).fit([x[:30], x[30:]])(x).shape
    (50, 2)
    """

    n_components: int
    _center: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _map: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def fit(self, blocks: Iterable[NDArray[np.floating]], weight: float | NDArray[np.floating] = 1.0) -> Self:
        """Find scales and components.

        Parameters
        ----------
        blocks
            Rows (n, g) of the table, some at a time; columns best near zero on average,
            for what is small beside its mean is lost.
        weight
            What to multiply the scaled columns with, (g,) or one for all.

        Returns
        -------
        ScaledPCA
            Itself.
        """
        n, total, gram = 0, np.zeros(1), np.zeros((1, 1))
        for block in blocks:
            total = total + block.sum(axis=0, dtype=np.float64)
            gram = gram + block.T @ block
            n += len(block)
        center = total / n
        covariance = gram / n - np.outer(center, center)
        variance = np.diag(covariance)
        # What is left of a constant column is rounding.
        varies = variance > np.maximum(1e-6 * center**2, 1e-9)
        factor = np.where(varies, weight / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
        axes, _ = axes_of(covariance * np.outer(factor, factor), self.n_components)
        self._center = center.astype(np.float32)
        self._map = np.ascontiguousarray((axes * factor).T, dtype=np.float32)
        return self

    def __call__(self, block: NDArray[np.floating]) -> NDArray[np.float32]:
        """Components (n, C) of rows (n, g)."""
        return np.asarray((block - self._center) @ self._map, dtype=np.float32)
