"""The contract of everything that describes the cells of a slice."""

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray


class SliceEncoder(Protocol):
    """Describes each cell by numbers, from counts and positions, learnt without labels.

    Simple methods, the models of stgraph and those of others are all one to a task. A
    `stgraph.preprocess.encoder.CellEncoder`, which looks at no neighbours, is one too.
    Constructor arguments are kept as attributes of the same name; what draws at random
    takes a ``random_state``.
    """

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn from canonical slices, each one section; labels are never looked at."""
        ...

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one canonical slice, seen in `fit` or not."""
        ...
