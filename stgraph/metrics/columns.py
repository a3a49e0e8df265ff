"""Agreement of two matrices, column by column."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

_BLOCK = 64
"""Columns worked on at a time: a large matrix is never copied whole."""


def column_pearson(truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson correlation of each column.

    Parameters
    ----------
    truth, predicted
        (N, D) finite numbers.

    Returns
    -------
    ndarray
        (D,): NaN where the truth is constant, for then there is nothing to be found;
        0 where only the prediction is constant, for then nothing was found. Were that
        NaN too, a model could drop out of its mean the columns it knows nothing of.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.columns import column_pearson
    >>> truth = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [2.0, 1.0, 2.0]])
    >>> predicted = np.array([[1.0, 0.0, 5.0], [3.0, 2.0, 5.0], [5.0, 1.0, 5.0]])
    >>> column_pearson(truth, predicted)
    array([ 1., nan,  0.])
    """
    return _by_block(_correlation, truth, predicted)


def column_spearman(truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """Spearman correlation of each column: Pearson's of the ranks, equal values sharing their mean rank.

    Parameters
    ----------
    truth, predicted
        (N, D) finite numbers.

    Returns
    -------
    ndarray
        (D,), undefined columns as in `column_pearson`.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.columns import column_spearman
    >>> column_spearman(np.array([[0.0], [1.0], [9.0]]), np.array([[1.0], [2.0], [3.0]]))
    array([1.])
    """
    return _by_block(lambda a, b: _correlation(rankdata(a, axis=1), rankdata(b, axis=1)), truth, predicted)


def column_rmse(truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """Root of the mean squared error of each column.

    Parameters
    ----------
    truth, predicted
        (N, D) finite numbers.

    Returns
    -------
    ndarray
        (D,), in the unit of the columns.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.columns import column_rmse
    >>> column_rmse(np.array([[0.0], [0.0]]), np.array([[3.0], [3.0]]))
    array([3.])
    """
    return _by_block(lambda a, b: np.sqrt(np.mean((a - b) ** 2, axis=1)), truth, predicted)


def _by_block(
    score: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    truth: NDArray[Any],
    predicted: NDArray[Any],
) -> NDArray[np.float64]:
    """The score of columns laid out as rows, which sorting and sums are fast on."""
    scores = np.empty(truth.shape[1])
    for start in range(0, truth.shape[1], _BLOCK):
        some = slice(start, start + _BLOCK)
        a, b = (np.ascontiguousarray(m[:, some].T, dtype=np.float64) for m in (truth, predicted))
        scores[some] = score(a, b)
    return scores


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    (a, a_constant), (b, b_constant) = _standardised(a), _standardised(b)
    found = np.clip(np.einsum("dn,dn->d", a, b), -1.0, 1.0)
    return np.where(a_constant, np.nan, np.where(b_constant, 0.0, found))


def _standardised(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rows of mean 0 and length 1, and which were constant (told exactly: their variance is rounding)."""
    constant = rows.min(axis=1) == rows.max(axis=1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    # By the largest first, so that squares neither overflow nor vanish.
    for scale in (np.abs(rows).max(axis=1), None):
        by = np.sqrt(np.einsum("dn,dn->d", rows, rows)) if scale is None else scale
        rows /= np.where(by > 0, by, 1.0)[:, None]
    return rows, constant
