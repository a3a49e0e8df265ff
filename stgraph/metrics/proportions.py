"""How well the composition of spots was told."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from stgraph.errors import InputError
from stgraph.metrics.arguments import checked_pair
from stgraph.metrics.columns import column_pearson, column_rmse

_TOLERANCE = 1e-3
"""How far a row may be from a sum of 1: rounding of half a thousand types in single precision."""


def proportion_scores(truth: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Divergence, error and correlation of proportions.

    Parameters
    ----------
    truth, predicted
        (N, K) share of each of K types in each spot; no share is below 0, and those of
        a spot add up to 1.

    Returns
    -------
    dict
        ``jsd``, Jensen-Shannon divergence in bits, mean over spots: 0 for the same
        proportions, 1 where no type is in both. (Its root, the distance that SciPy
        returns, is another number.)

        ``rmse``, root of the mean squared error over all spots and types.

        ``pearson``, correlation over spots, mean over the types whose true share varies;
        0 for a type whose prediction alone is constant, NaN if no true share varies.

    Raises
    ------
    InputError
        If the shapes differ, or a row is no set of proportions.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on
    Information Theory 37, 1991.

    Examples
    --------
    >>> from stgraph.metrics.proportions import proportion_scores
    >>> scores = proportion_scores([[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]])
    >>> {name: round(score, 3) for name, score in scores.items()}
    {'jsd': 0.156, 'rmse': 0.354, 'pearson': 0.0}
    """
    by_type = proportion_scores_by_type(truth, predicted)
    defined = ~np.isnan(by_type["pearson"])
    return {
        "jsd": float(by_type["jsd"].sum()),
        "rmse": float(np.sqrt((by_type["rmse"] ** 2).mean())),
        "pearson": float(by_type["pearson"][defined].mean()) if defined.any() else float("nan"),
    }


def proportion_scores_by_type(truth: ArrayLike, predicted: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """The scores of `proportion_scores` for each type.

    Parameters
    ----------
    truth, predicted
        (N, K), as there.

    Returns
    -------
    dict
        Three arrays (K,): ``jsd``, what the type adds to the mean divergence, in bits, so
        that they sum to it; ``rmse``; ``pearson``, NaN where the true share is constant.

    Raises
    ------
    InputError
        If the shapes differ, or a row is no set of proportions.

    Examples
    --------
    >>> from stgraph.metrics.proportions import proportion_scores_by_type
    >>> proportion_scores_by_type([[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]])["jsd"].round(3)
    array([0.031, 0.125])
    """
    true, found = checked_pair("proportion_scores", truth, predicted)
    true, found = _proportions("truth", true), _proportions("predicted", found)
    middle = (true + found) / 2
    return {
        "jsd": (_divergence(true, middle) + _divergence(found, middle)) / 2,
        "rmse": column_rmse(true, found),
        "pearson": column_pearson(true, found),
    }


def _proportions(name: str, shares: NDArray[Any]) -> NDArray[np.float64]:
    """Checked, and divided by sums that are 1 but for rounding."""
    shares = shares.astype(np.float64)
    total = shares.sum(axis=1)
    wrong = (shares < 0).any(axis=1) | (np.abs(total - 1) > _TOLERANCE)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"{int(wrong.sum())} of {len(shares)} rows of {name} are no proportions (row {first} has a least share of "
            f"{shares[first].min():.3g} and a sum of {total[first]:.3g}): divide non-negative rows by their sums."
        )
    return np.asarray(shares / total[:, None])


def _divergence(p: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each type adds to the mean Kullback-Leibler divergence, in bits."""
    ratio = p / np.where(middle > 0, middle, 1.0)
    return np.asarray(xlogy(p, np.where(p > 0, ratio, 1.0)).mean(axis=0) / np.log(2))
