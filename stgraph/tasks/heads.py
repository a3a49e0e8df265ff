"""The heads that are tried on a frozen description, unless a user names others."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stgraph.graph.arguments import check_whole


class Narrow(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Principal components of a description wider than some channels; a narrower one as it is.

    On 3000 channels (three means of 1000 genes) 300 components make discriminant analysis
    twelve times faster, and better: macro F1 .79 and .80 against .74 and .79 between two
    slices of cortex.

    Parameters
    ----------
    max_channels
        Channels left at most.
    random_state
        Seed of the solver.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.heads import Narrow
    >>> x = np.random.default_rng(0).normal(size=(20, 6))
    >>> Narrow(4).fit_transform(x).shape, Narrow(8).fit_transform(x).shape
    ((20, 4), (20, 6))
    """

    def __init__(self, max_channels: int = 300, random_state: int = 0) -> None:
        self.max_channels = max_channels
        self.random_state = random_state

    def fit(self, x: NDArray[Any], y: object = None) -> Self:
        """Find the components of (N, C) descriptions."""
        check_whole(self, "max_channels")
        self.pca_ = None
        if x.shape[1] > self.max_channels:
            n_components = min(self.max_channels, len(x))
            self.pca_ = PCA(n_components, svd_solver="randomized", random_state=self.random_state).fit(x)
        return self

    def transform(self, x: NDArray[Any]) -> NDArray[Any]:
        """(N, C) descriptions with fewer channels."""
        return np.asarray(x if self.pca_ is None else self.pca_.transform(x))


def classifiers() -> Sequence[BaseEstimator]:
    """Linear heads for classes: discriminant analysis with shrinkage, and logistic regressions.

    Discriminant analysis (Ledoit-Wolf) is better for wide descriptions and few labels,
    logistic regression for classes of odd shapes. The latter stands here with three
    strengths, and once with every channel scaled by itself, for descriptions in which a
    few channels drown the others.

    Returns
    -------
    list of estimator
        Not fitted. The first is what is taken where nothing can be chosen.

    Examples
    --------
    >>> from stgraph.tasks.heads import classifiers
    >>> len(classifiers())
    5
    """
    return [
        make_pipeline(Narrow(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
        *(make_pipeline(Narrow(), LogisticRegression(C=c, max_iter=300)) for c in (0.1, 1.0, 10.0)),
        make_pipeline(StandardScaler(), Narrow(), LogisticRegression(C=0.01, max_iter=300)),
    ]


def few_label_classifier() -> BaseEstimator:
    """The head for a handful of labels, where there are none to choose with.

    Returns
    -------
    estimator
        Logistic regression, not fitted.

    Examples
    --------
    >>> from stgraph.tasks.heads import few_label_classifier
    >>> few_label_classifier().C
    1.0
    """
    return LogisticRegression(C=1.0, max_iter=300)


def mlp_classifiers(*, random_state: int = 0) -> Sequence[BaseEstimator]:
    """Perceptrons with a hidden layer, of three strengths of weight decay, for `Probe` by name.

    They are no default: from one slice of cortex to another (means over 30 cells) they score a
    macro F1 of .78 and .77, the linear heads .80 and .78.

    Parameters
    ----------
    random_state
        Seed of weights and batches.

    Returns
    -------
    list of estimator
        Not fitted.

    Examples
    --------
    >>> from stgraph.tasks.heads import mlp_classifiers
    >>> [head.alpha for head in mlp_classifiers()]
    [0.01, 0.1, 1.0]
    """
    return [
        MLPClassifier(
            hidden_layer_sizes=(64,), alpha=alpha, max_iter=60, early_stopping=False, random_state=random_state
        )
        for alpha in (0.01, 0.1, 1.0)
    ]


def regressors() -> Sequence[BaseEstimator]:
    """Linear heads for values: ridge regression of four strengths, the strongest first.

    So a probe takes the simplest that is not clearly worse than the best.

    Returns
    -------
    list of estimator
        Not fitted.

    Examples
    --------
    >>> from stgraph.tasks.heads import regressors
    >>> [head.alpha for head in regressors()]
    [1000.0, 100.0, 10.0, 1.0]
    """
    return [Ridge(alpha=alpha) for alpha in (1000.0, 100.0, 10.0, 1.0)]


def mlp_regressors(*, random_state: int = 0) -> Sequence[BaseEstimator]:
    """Perceptrons for values, as `mlp_classifiers`.

    Parameters
    ----------
    random_state
        Seed of weights and batches.

    Returns
    -------
    list of estimator
        Not fitted.

    Examples
    --------
    >>> from stgraph.tasks.heads import mlp_regressors
    >>> len(mlp_regressors())
    3
    """
    return [
        MLPRegressor(
            hidden_layer_sizes=(64,), alpha=alpha, max_iter=60, early_stopping=False, random_state=random_state
        )
        for alpha in (0.01, 0.1, 1.0)
    ]
