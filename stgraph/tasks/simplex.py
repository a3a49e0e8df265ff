"""Numbers that should be proportions, made to be."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge

from stgraph.errors import StgraphWarning


def onto_simplex(values: ArrayLike) -> NDArray[np.float64]:
    """The nearest proportions, row by row.

    No row of proportions becomes farther away by it, so that a prediction is never worse
    for it in squared error. Clipping and dividing by the sum does not have this property.

    Parameters
    ----------
    values
        (M, K) finite numbers.

    Returns
    -------
    ndarray
        (M, K), rows that are not negative and sum to 1.

    References
    ----------
    J. Duchi et al., "Efficient projections onto the l1-ball for learning in high
    dimensions", ICML 2008.

    Examples
    --------
    >>> from stgraph.tasks.simplex import onto_simplex
    >>> onto_simplex([[0.7, 0.5], [2.0, -1.0]])
    array([[0.6, 0.4],
           [1. , 0. ]])
    """
    x = np.asarray(values, dtype=np.float64)
    falling = -np.sort(-x, axis=1)
    rank = np.arange(1, x.shape[1] + 1)
    excess = (np.cumsum(falling, axis=1) - 1) / rank
    n_kept = (falling > excess).sum(axis=1)
    nearest = np.maximum(x - excess[np.arange(len(x)), n_kept - 1][:, None], 0)
    return np.asarray(nearest / nearest.sum(axis=1, keepdims=True))


def shares_of(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights divided by their sums; a spot without any gets the mean of the others.

    Parameters
    ----------
    weights
        (M, K) not negative.

    Returns
    -------
    ndarray
        (M, K), rows of the simplex.

    Warns
    -----
    StgraphWarning
        If a spot has no weight: it holds no counts of any signature.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.simplex import shares_of
    >>> shares_of(np.array([[3.0, 1.0], [0.0, 2.0]]))
    array([[0.75, 0.25],
           [0.  , 1.  ]])
    """
    total = weights.sum(axis=1)
    empty = ~(total > 0)
    shares = weights / np.where(empty, 1.0, total)[:, None]
    if empty.any():
        warnings.warn(
            f"{int(empty.sum())} of {len(weights)} spots have no counts of the genes that tell types apart; they get "
            "the mean composition of the others.",
            StgraphWarning,
            stacklevel=3,
        )
        shares[empty] = shares[~empty].mean(axis=0) if not empty.all() else 1 / weights.shape[1]
    return np.asarray(shares)


class SimplexRidge(Ridge):  # type: ignore[misc]
    """Ridge regression of proportions, its predictions brought `onto_simplex`.

    Examples
    --------
    >>> from stgraph.tasks.simplex import SimplexRidge
    >>> SimplexRidge(alpha=1.0).fit([[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]]).predict([[9.0]])
    array([[0., 1.]])
    """

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """(M, K) proportions from (M, C) descriptions."""
        return onto_simplex(super().predict(x))


def proportion_heads() -> list[BaseEstimator]:
    """Ridge regressions of five strengths that predict proportions, the strongest first.

    Returns
    -------
    list of estimator
        Not fitted.

    Examples
    --------
    >>> from stgraph.tasks.simplex import proportion_heads
    >>> len(proportion_heads())
    5
    """
    return [SimplexRidge(alpha=alpha) for alpha in (10000.0, 1000.0, 100.0, 10.0, 1.0)]
