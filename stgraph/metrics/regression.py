"""How well numbers were told."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stgraph.metrics.arguments import checked_pair
from stgraph.metrics.columns import column_pearson, column_spearman


def regression_scores(truth: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Error, correlations and explained variance, each the mean over the columns.

    Parameters
    ----------
    truth, predicted
        (N, D) numbers.

    Returns
    -------
    dict
        ``mae``, mean absolute error, in the unit of the columns.

        ``pearson`` and ``spearman``, correlations; 0 for a column of which the
        prediction alone is constant.

        ``r2``, 1 less the squared error as a share of that of the mean of the column;
        below 0 for a prediction worse than this mean.

            ``r2_pooled``, the same of all columns together, so that a column counts by its
        variance: the mean of the columns can be far below 0 for one that hardly varies.

    Columns constant in truth count for ``mae`` alone. If all are, the other scores
        are NaN.

    Raises
    ------
    InputError
        If the shapes differ, or a number is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.regression import regression_scores
    >>> truth = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> scores = regression_scores(truth, truth + 0.5)
    >>> {name: round(score, 3) for name, score in scores.items()}
    {'mae': 0.5, 'pearson': 1.0, 'spearman': 1.0, 'r2': 0.625, 'r2_pooled': 0.625}
    """
    true, found = checked_pair("regression_scores", truth, predicted)
    true, found = true.astype(np.float64), found.astype(np.float64)
    varies = true.min(axis=0) < true.max(axis=0)
    residual = ((true - found)[:, varies] ** 2).sum(axis=0)
    total = ((true - true.mean(axis=0))[:, varies] ** 2).sum(axis=0)
    return {
        "mae": float(np.abs(true - found).mean()),
        "pearson": _mean(column_pearson(true, found)[varies]),
        "spearman": _mean(column_spearman(true, found)[varies]),
        "r2": _mean(1 - residual / total),
        "r2_pooled": 1 - float(residual.sum() / total.sum()) if varies.any() else float("nan"),
    }


def _mean(scores: NDArray[np.float64]) -> float:
    return float(scores.mean()) if len(scores) else float("nan")
