"""Checks of the arrays that metrics are given."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stgraph.errors import InputError


def checked_codes(who: str, name: str, codes: ArrayLike, n_cells: int | None = None) -> NDArray[np.int64]:
    """A vector of whole numbers, one for each cell.

    Parameters
    ----------
    who, name
        The metric and its argument, for the error.
    codes
        (N,) integers.
    n_cells
        N; None for any but zero.

    Returns
    -------
    ndarray
        (N,) int64.

    Raises
    ------
    InputError
        If they are no whole numbers, or not one for each cell.

    Examples
    --------
    >>> from stgraph.metrics.arguments import checked_codes
    >>> checked_codes("pas", "labels", [1, 0, 1], n_cells=3)
    array([1, 0, 1])
    """
    array = np.asarray(codes)
    if array.ndim != 1 or len(array) == 0:
        raise InputError(f"{who} needs {name} of one number for each cell, not an array of shape {array.shape}.")
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"{who} needs {name} as integer codes, not {array.dtype}: take np.unique(..., return_inverse)."
        )
    if n_cells is not None and len(array) != n_cells:
        raise InputError(f"{who} has {len(array)} {name} for {n_cells} cells: there must be one for each.")
    return array.astype(np.int64, copy=False)


def checked_matrix(
    who: str, name: str, values: ArrayLike, shape: tuple[int | None, int | None] = (None, None)
) -> NDArray[Any]:
    """A matrix of finite real numbers, one row for each cell.

    Parameters
    ----------
    who, name
        The metric and its argument, for the error.
    values
        (N, D) numbers.
    shape
        What the shape has to be; None for any number but zero.

    Returns
    -------
    ndarray
        (N, D), of the type it came in.

    Raises
    ------
    InputError
        If it has another shape, or a number is NaN or infinite.

    Examples
    --------
    >>> from stgraph.metrics.arguments import checked_matrix
    >>> checked_matrix("chaos", "pos", [[0.0, 1.0]], shape=(None, 2))
    array([[0., 1.]])
    """
    array = np.asarray(values)
    wanted = ", ".join("any" if n is None else str(n) for n in shape)
    if (
        array.ndim != 2
        or 0 in array.shape
        or any(n is not None and m != n for m, n in zip(array.shape, shape, strict=True))
    ):
        raise InputError(f"{who} needs {name} of shape ({wanted}), cells in rows, not {array.shape}.")
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise InputError(f"{who} needs {name} as real numbers, not {array.dtype}.")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{who}: {int((~finite).sum())} of {len(array)} rows of {name} hold NaN or infinity "
            f"(the first is row {int(np.argmin(finite))}): leave these cells out, or mend the model."
        )
    return array


def checked_pair(who: str, truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Truth and prediction, two finite matrices (N, D) of one shape.

    Parameters
    ----------
    who
        The metric, for the error.
    truth, predicted
        (N, D) numbers.

    Returns
    -------
    tuple of ndarray
        Both, of the types they came in.

    Raises
    ------
    InputError
        If a shape does not fit, or a number is NaN or infinite.

    Examples
    --------
    >>> from stgraph.metrics.arguments import checked_pair
    >>> checked_pair("regression_scores", [[1.0]], [[2.0]])
    (array([[1.]]), array([[2.]]))
    """
    truth = checked_matrix(who, "truth", truth)
    n, d = truth.shape
    return truth, checked_matrix(who, "predicted", predicted, shape=(n, d))
