"""A linear head learnt in closed form or nearly so, for a network to be trained on from there."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

_NEVER = -10.0
"""Logit, relative to the mean of others, of a class that was not seen in training."""


@dataclass(frozen=True)
class Linear:
    """Logits or values from what a head reads.

    Attributes
    ----------
    weight
        (K, C).
    bias
        (K,).
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, K) of (N, C)."""
        return np.asarray(x @ self.weight.T + self.bias)


def linear_classifiers(
    x: NDArray[np.floating], y: NDArray[np.int64], n_classes: int, *, balanced: bool = False
) -> list[Linear]:
    """Shrinkage LDA and logistic regressions of two strengths, as logits of all classes.

    Parameters
    ----------
    x
        (N, C) what the head reads of the training cells.
    y
        (N,) their classes.
    n_classes
        K.
    balanced
        Whether classes count alike, however many cells they have.

    Returns
    -------
    list of Linear
        LDA first, unless there are too few cells for it.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.linear_start import linear_classifiers
    >>> y = np.repeat([0, 2], 20)
    >>> x = y[:, None] + np.random.default_rng(0).normal(size=(40, 2)) / 9
    >>> [float((head(x).argmax(axis=1) == y).mean()) for head in linear_classifiers(x, y, 3)]
    [1.0, 1.0, 1.0]
    """
    classes = np.unique(y)
    if len(classes) == 1:
        return [Linear(np.zeros((n_classes, x.shape[1])), np.where(np.arange(n_classes) == classes[0], 0.0, _NEVER))]
    weight = "balanced" if balanced else None
    heads = [LogisticRegression(C=c, max_iter=300, class_weight=weight) for c in (0.01, 0.1)]
    if len(y) > len(classes):
        priors = np.full(len(classes), 1 / len(classes)) if balanced else None
        heads.insert(0, LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors))
    scaler = StandardScaler().fit(x)
    return [_folded(_fitted(head, scaler.transform(x), y), scaler, n_classes) for head in heads]


def linear_regressors(x: NDArray[np.floating], y: NDArray[np.float64]) -> list[Linear]:
    """Ridge regressions of three strengths.

    Parameters
    ----------
    x
        (N, C) what the head reads of the training cells.
    y
        (N, D) their values.

    Returns
    -------
    list of Linear
        The weakest first.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.linear_start import linear_regressors
    >>> x = np.random.default_rng(0).normal(size=(40, 2))
    >>> linear_regressors(x, x[:, :1] - x[:, 1:] + 3)[0].weight.round(1)
    array([[ 1., -1.]])
    """
    scaler = StandardScaler().fit(x)
    fitted = [Ridge(alpha=alpha).fit(scaler.transform(x), y) for alpha in (1.0, 30.0, 1000.0)]
    return [_unscaled(np.atleast_2d(head.coef_), np.atleast_1d(head.intercept_), scaler) for head in fitted]


def best_of(heads: list[Linear], loss: Callable[[Linear], float] | None) -> Linear:
    """The head of least loss, or the first if there is nothing to choose by.

    Parameters
    ----------
    heads
        At least one.
    loss
        On validation cells; None if there are none.

    Returns
    -------
    Linear
        The earliest of equals.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.linear_start import Linear, best_of
    >>> heads = [Linear(np.zeros((1, 1)), np.array([bias])) for bias in (2.0, 1.0)]
    >>> best_of(heads, lambda head: head.bias[0]).bias
    array([1.])
    """
    return heads[0] if loss is None else min(heads, key=loss)


def _fitted(head: LogisticRegression, x: NDArray[np.float64], y: NDArray[np.int64]) -> LogisticRegression:
    with warnings.catch_warnings():
        # It is only a start.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return head.fit(x, y)


def _folded(head: LogisticRegression, scaler: StandardScaler, n_classes: int) -> Linear:
    coef, intercept = head.coef_, head.intercept_
    if len(head.classes_) == 2:
        # One logit says how much more likely the second class is.
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    seen = _unscaled(coef, intercept, scaler)
    # Unseen classes stay below the mean logit, so that no cell, however odd, makes one the most likely.
    weight = np.repeat(seen.weight.mean(axis=0, keepdims=True), n_classes, axis=0)
    bias = np.full(n_classes, seen.bias.mean() + _NEVER)
    weight[head.classes_], bias[head.classes_] = seen.weight, seen.bias
    return Linear(weight, bias)


def _unscaled(coef: NDArray[np.float64], intercept: NDArray[np.float64], scaler: StandardScaler) -> Linear:
    """The same head, for what was not scaled."""
    weight = coef / scaler.scale_
    return Linear(weight, intercept - weight @ scaler.mean_)
