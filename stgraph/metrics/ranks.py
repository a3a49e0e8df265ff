"""Methods compared over data sets by their ranks, and two of them by their differences."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, rankdata, studentized_range

from stgraph.errors import InputError
from stgraph.metrics.intervals import clustered_interval, group_means


def mean_ranks(table: ArrayLike, *, higher_is_better: bool = True) -> NDArray[np.float64]:
    """Mean rank of each method over data sets; 1 is the best.

    Parameters
    ----------
    table
        (D, M) score of M methods on D data sets. NaN for a method that gave no score:
        it comes last there, with all others of no score, for otherwise it would pay to fail.
    higher_is_better
        False for errors.

    Returns
    -------
    ndarray
        (M,) from 1 to M; equal scores share the mean of their ranks.

    Raises
    ------
    InputError
        If no method has a score on some data set.

    References
    ----------
    J. Demšar, "Statistical comparisons of classifiers over multiple data sets", Journal of Machine Learning
    Research 7, 2006.

    Examples
    --------
    >>> from stgraph.metrics.ranks import mean_ranks
    >>> mean_ranks([[0.9, 0.8, 0.8], [0.7, 0.9, float("nan")]])
    array([1.5 , 1.75, 2.75])
    """
    return np.asarray(_ranks(table, higher_is_better).mean(axis=0))


def friedman(table: ArrayLike, *, higher_is_better: bool = True) -> tuple[float, float]:
    """Friedman's test of whether the methods differ at all.

    Parameters
    ----------
    table, higher_is_better
        As for `mean_ranks`.

    Returns
    -------
    tuple of float
        Chi-squared statistic of M - 1 degrees of freedom, corrected for ties, and its p
        value, which is rough for fewer than about ten data sets. 0 and 1 where all
        methods are equal everywhere.

    Raises
    ------
    InputError
        If no method has a score on some data set.

    References
    ----------
    M. Friedman, "The use of ranks to avoid the assumption of normality", Journal of the American Statistical
    Association 32, 1937.

    Examples
    --------
    >>> from stgraph.metrics.ranks import friedman
    >>> statistic, p = friedman([[0.9, 0.8, 0.7]] * 6)
    >>> round(statistic, 2), round(p, 4)
    (12.0, 0.0025)
    """
    ranks = _ranks(table, higher_is_better)
    d, m = ranks.shape
    # Variance of the ranks as they are: ties make it smaller than that of 1 to M.
    spread = ((ranks - (m + 1) / 2) ** 2).sum() / (m - 1)
    if spread == 0:
        return 0.0, 1.0
    statistic = float(((ranks.sum(axis=0) - d * (m + 1) / 2) ** 2).sum() / spread)
    return statistic, float(chi2.sf(statistic, m - 1))


def nemenyi_distance(n_methods: int, n_data: int, alpha: float = 0.05) -> float:
    """Critical difference of mean ranks: two methods further apart than this differ.

    Parameters
    ----------
    n_methods, n_data
        M methods, D data sets. Slices of one study are hardly independent data sets.
    alpha
        Chance of finding any difference where there is none.

    Returns
    -------
    float
        q sqrt(M (M + 1) / (6 D)), q the quantile of the studentised range over sqrt 2.

    Raises
    ------
    InputError
        If there are fewer than two methods or no data.

    References
    ----------
    As for `mean_ranks`.

    Examples
    --------
    >>> from stgraph.metrics.ranks import nemenyi_distance
    >>> round(nemenyi_distance(4, 14), 2)
    1.25
    """
    if n_methods < 2 or n_data < 1:
        raise InputError(f"nemenyi_distance needs two methods and a data set, not {n_methods} and {n_data}.")
    if not 0 < alpha < 1:
        raise InputError(f"nemenyi_distance needs an alpha between 0 and 1, as 0.05, not {alpha}.")
    q = studentized_range.ppf(1 - alpha, n_methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_methods * (n_methods + 1) / (6 * n_data)))


def cliques(mean_ranks: ArrayLike, distance: float) -> list[tuple[int, ...]]:
    """Groups of methods that are not told apart: the bars of a critical-difference diagram.

    Parameters
    ----------
    mean_ranks
        (M,) mean rank of each method.
    distance
        Critical difference; methods differ that are at least so far apart.

    Returns
    -------
    list of tuple of int
        Methods of each group, best first. Groups are as large as can be; a method alone
        makes none.

    Raises
    ------
    InputError
        If a rank is not finite or the distance negative.

    Examples
    --------
    >>> from stgraph.metrics.ranks import cliques
    >>> cliques([1.0, 3.0, 1.8, 2.4], distance=1.0)
    [(0, 2), (2, 3), (3, 1)]
    """
    ranks = np.asarray(mean_ranks, dtype=np.float64)
    if ranks.ndim != 1 or not np.isfinite(ranks).all() or not distance >= 0:
        raise InputError(f"cliques needs one finite rank for each method and a distance of 0 or more, not {distance}.")
    order = np.argsort(ranks, kind="stable")
    ends = np.searchsorted(ranks[order], ranks[order] + distance, side="left")
    groups, reached = [], 0
    for start, end in enumerate(ends):
        if end > reached and end - start > 1:
            groups.append(tuple(int(m) for m in order[start:end]))
        reached = max(reached, int(end))
    return groups


def paired_difference(
    ours: ArrayLike,
    other: ArrayLike,
    groups: ArrayLike,
    *,
    n_draws: int = 2000,
    level: float = 0.95,
    random_state: int = 0,
) -> tuple[float, float, float]:
    """Mean of ours less the other over slices, and its interval.

    What makes a slice hard makes it hard for both, so that differences vary much less
    than scores: two methods may well differ whose own intervals overlap.

    Parameters
    ----------
    ours, other
        (n,) scores of two methods on the same slices with the same folds and seeds, in
        the same order.
    groups
        (n,) slice of each; every slice weighs the same.
    n_draws, level, random_state
        As for `stgraph.metrics.intervals.clustered_interval`, which makes the interval.

    Returns
    -------
    tuple of float
        Mean difference, lower and upper end. All NaN where a score is NaN (to leave out a
        pair is a decision the caller has to make), the ends also for a single slice.

    Raises
    ------
    InputError
        If the scores are not in pairs, or there is not one group for each.

    Examples
    --------
    >>> from stgraph.metrics.ranks import paired_difference
    >>> ours, other = [0.62, 0.81, 0.70, 0.33], [0.52, 0.70, 0.60, 0.21]
    >>> mean, low, high = paired_difference(ours, other, ["a", "b", "c", "d"])
    >>> round(mean, 2), 0.08 < low < mean < high < 0.13
    (0.11, True)
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError(f"paired_difference has scores of shapes {a.shape} and {b.shape}: they must be in pairs.")
    low, high = clustered_interval(a - b, groups, n_draws=n_draws, level=level, random_state=random_state)
    return float(group_means(a - b, groups).mean()), low, high


def _ranks(table: ArrayLike, higher_is_better: bool) -> NDArray[np.float64]:
    scores = np.array(table, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise InputError(f"Ranks need a table of data sets by at least two methods, not of shape {scores.shape}.")
    empty = np.isnan(scores).all(axis=1)
    if empty.any():
        raise InputError(f"No method has a score on data set {int(np.argmax(empty))}: leave it out.")
    losses = -scores if higher_is_better else scores
    losses[np.isnan(losses)] = np.inf
    return np.asarray(rankdata(losses, axis=1))
