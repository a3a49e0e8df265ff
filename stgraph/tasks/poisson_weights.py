"""The most likely weights of non-negative signatures in Poisson counts, of many spots at once."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

_TINY = 1e-12


def poisson_weights(
    counts: NDArray[np.float64], profiles: NDArray[np.float64], *, max_rounds: int = 300, tolerance: float = 1e-5
) -> NDArray[np.float64]:
    """Weights W, not negative, that make ``counts ~ Poisson(W @ profiles)`` most likely, row by row.

    Expectation and maximisation (the update of Richardson and Lucy) never lets a weight
    become negative nor the likelihood fall, but creeps; its steps are extrapolated (SQUAREM),
    each row as far as it goes, and back where the likelihood would fall.

    Parameters
    ----------
    counts
        (M, G) not negative; need not be whole.
    profiles
        (K, G) not negative. A signature of zeros has no weight.
    max_rounds
        Extrapolations at most, three updates each.
    tolerance
        Largest change of a share, in one round, to stop at.

    Returns
    -------
    ndarray
        (M, K) float64.

    References
    ----------
    W. H. Richardson, Journal of the Optical Society of America 62, 1972. R. Varadhan and
    C. Roland, "Simple and globally convergent methods for accelerating the convergence of
    any EM algorithm", Scandinavian Journal of Statistics 35, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.poisson_weights import poisson_weights
    >>> profiles = np.array([[4.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    >>> poisson_weights(np.array([[3.0, 1.0]]) @ profiles, profiles).round(3)
    array([[3., 1.]])
    """
    there = profiles.sum(axis=1) > 0
    weights = np.zeros((len(counts), len(profiles)))
    if not there.any():
        return weights
    some = profiles[there]
    rows = np.flatnonzero(counts[:, some.sum(axis=0) > 0].sum(axis=1) > 0)
    size = some.sum(axis=1)
    start = np.repeat(counts[rows].sum(axis=1, keepdims=True) / size.sum(), len(some), axis=1)
    found = np.array(start)
    left = np.arange(len(rows))
    for _ in range(max_rounds):
        before = found[left]
        after = _round(before, counts[rows[left]], some, size)
        found[left] = after
        moved = np.abs(after / after.sum(axis=1, keepdims=True) - before / before.sum(axis=1, keepdims=True))
        left = left[moved.max(axis=1) > tolerance]
        if not len(left):
            break
    weights[np.ix_(rows, np.flatnonzero(there))] = found
    return weights


def _round(
    w0: NDArray[np.float64], counts: NDArray[np.float64], profiles: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    w1 = _update(w0, counts, profiles, size)
    w2 = _update(w1, counts, profiles, size)
    first, bend = w1 - w0, w2 - 2 * w1 + w0
    step = np.sqrt((first**2).sum(axis=1) / np.maximum((bend**2).sum(axis=1), 1e-300))
    step = np.clip(step, 1.0, 1e3)[:, None]
    # A weight may shrink fast, but stays above zero: from there no update would bring it back.
    leap = np.maximum(w0 + 2 * step * first + step**2 * bend, w2 * 0.01)
    better = _likelihood(leap, counts, profiles) > _likelihood(w2, counts, profiles)
    return _update(np.where(better[:, None], leap, w2), counts, profiles, size)


def _update(
    weights: NDArray[np.float64], counts: NDArray[np.float64], profiles: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    ratio = counts / np.maximum(weights @ profiles, _TINY)
    return np.asarray(weights * (ratio @ profiles.T) / size)


def _likelihood(
    weights: NDArray[np.float64], counts: NDArray[np.float64], profiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log-likelihood of each row, up to a constant."""
    rate = np.maximum(weights @ profiles, _TINY)
    return np.asarray((xlogy(counts, rate) - rate).sum(axis=1))
