"""The contract of what learns the classes or values of cells."""

from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.tasks.folds import Fold
from stgraph.tasks.target import Target


class Predictor(Protocol):
    """Learns classes or values of cells from known ones, and says those of others."""

    def learn(self, slices: Mapping[str, AnnData], target: Target, fold: Fold) -> Self:
        """Learn from the training cells of a fold; choose by its validation cells only."""
        ...

    def predict(self, adata: AnnData) -> NDArray[np.float64]:
        """(N, K) probabilities of the classes, or (N, D) values, of the cells of one slice."""
        ...
