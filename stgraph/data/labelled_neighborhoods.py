"""Neighbourhoods whose centres are known: what a network of neighbourhoods learns labels from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.truth import known
from stgraph.errors import InputError
from stgraph.graph.neighborhoods import Neighborhoods


@dataclass(frozen=True, eq=False)
class LabelledBatch(NeighborhoodBatch):
    """A batch whose centres are known.

    Attributes
    ----------
    truth
        (S,) int64 classes or (S, D) float32 values of the centres. Of their neighbours nothing is told.
    """

    truth: Tensor | None = None


class LabelledNeighborhoods(Dataset[LabelledBatch]):
    """Those cells of a data set that are known, numbered from 0, each with all its neighbours, known or not.

    Parameters
    ----------
    cells
        The data set.
    truth
        For each of its slices (N,) whole numbers, -1 where nothing is known; or (N, D) values, NaN where nothing is.
        What must not be learnt from has to be hidden before.

    Attributes
    ----------
    truth
        (n,) int64 or (n, D) float32, of the known cells.
    lengths
        (n,) tokens of their neighbourhoods.
    first, neighborhoods
        Of the known cells of each slice, as `NeighborhoodSequences` has them of all.
    begin, cell_tokens, depth, neighbor_lists
        Those of ``cells``, among which the neighbours are; with these, samplers take known cells as they take all.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.labelled_neighborhoods import LabelledNeighborhoods
    >>> from stgraph.data.neighborhood_sequences import NeighborhoodSequences
    >>> from stgraph.graph.neighborhoods import neighborhoods
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> counts = RaggedTokens(np.array([0, 2, 1], np.int32), np.array([0, 1, 2, 3]), np.ones(3, np.float32))
    >>> around = neighborhoods(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), 1)
    >>> cells = NeighborhoodSequences([counts], [around], [np.arange(3)], num_genes=3)
    >>> labelled = LabelledNeighborhoods(cells, [np.array([7, -1, 4])])
    >>> len(labelled), labelled[[1]].cell.tolist(), labelled[[1]].truth.tolist()
    (2, [2], [4])
    """

    neighbor_lists: None = None

    def __init__(self, cells: NeighborhoodSequences, truth: Sequence[NDArray[Any]]) -> None:
        found, needed = [len(each) for each in truth], np.diff(cells.first).tolist()
        if found != needed:
            raise InputError(f"The truth is of slices of {found} cells, but the data set has {needed}.")
        of_slice, whole = [known(each) for each in truth], np.concatenate(list(truth))
        chosen = np.concatenate(of_slice)
        self.cells, self.rows = cells, np.flatnonzero(chosen)
        self.truth = whole[chosen].astype(np.int64 if whole.ndim == 1 else np.float32)
        self.lengths: NDArray[np.int64] = cells.lengths[chosen]
        self.first = np.cumsum([0, *(int(each.sum()) for each in of_slice)])
        self.neighborhoods = [
            Neighborhoods(around.index[each], around.distance[each])
            for around, each in zip(cells.neighborhoods, of_slice, strict=True)
        ]
        self.begin, self.cell_tokens, self.depth = cells.begin, cells.cell_tokens, cells.depth

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: int | Sequence[int] | NDArray[np.integer]) -> LabelledBatch:
        """The neighbourhoods of the known cells asked for, in that order."""
        chosen = np.atleast_1d(np.asarray(rows, dtype=np.int64))
        batch = self.cells[self.rows[chosen]]
        parts = {each.name: getattr(batch, each.name) for each in fields(batch)}
        return LabelledBatch(**parts, truth=torch.from_numpy(self.truth[chosen]))
