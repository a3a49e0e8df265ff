"""Principal axes of a table that is never there as a whole."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

_WIDE = 500
"""Columns from which on only the wanted axes are computed."""


def principal_axes(
    blocks: Iterable[NDArray[np.float32]], n_components: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions of largest variance.

    Parameters
    ----------
    blocks
        (n, g) centred rows of the table, some at a time; at least one row in all.
    n_components
        C, axes wanted; fewer come if the table has fewer dimensions.

    Returns
    -------
    axes : ndarray
        (C, g) orthonormal rows, each with its largest loading positive.
    scale : ndarray
        (C,) standard deviation along each axis, decreasing.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.streamed_pca import principal_axes
    >>> principal_axes([np.array([[3.0, 0.0], [-3.0, 0.0]]), np.array([[0.0, 1.0], [0.0, -1.0]])], 1)[0]
    array([[1., 0.]])
    """
    n, gram = 0, np.zeros((0, 0))
    for block in blocks:
        if not n:
            gram = np.zeros((block.shape[1], block.shape[1]))
        gram += block.T @ block
        n += len(block)
    return axes_of(gram / max(n, 1), n_components)


def axes_of(covariance: NDArray[np.float64], n_components: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions of largest variance (C, g) and the standard deviation (C,) along each; see `principal_axes`.

    Parameters
    ----------
    covariance
        (g, g).
    n_components
        C, axes wanted; fewer come if it has fewer dimensions.
    """
    width = len(covariance)
    c = min(n_components, width)
    if width > _WIDE and c < width // 5:
        start = np.random.default_rng(0).normal(size=width)  # decides nothing but the last digits
        value, vector = eigsh(covariance, k=c, v0=start)
    else:
        value, vector = eigh(covariance, subset_by_index=[width - c, width - 1])
    value, axes = value[::-1], vector.T[::-1]
    solid = value > max(value[0], 1e-300) * 1e-6
    value, axes = value[solid], axes[solid]
    # The sign of an axis is arbitrary; ties of the largest loading are decided by the first.
    largest = (np.abs(axes) > np.abs(axes).max(axis=1, initial=0, keepdims=True) * (1 - 1e-6)).argmax(axis=1)
    sign = np.sign(axes[np.arange(len(axes)), largest])
    return np.ascontiguousarray(axes * sign[:, None]), np.sqrt(value)
