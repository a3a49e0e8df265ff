"""The cells of many slices as a data set of token sequences."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from stgraph.data.cell_batch import CellBatch
from stgraph.data.runs import runs
from stgraph.errors import InputError
from stgraph.preprocess.ragged_tokens import RaggedTokens


class CellSequences(Dataset[CellBatch]):
    """Cells of many slices, numbered one slice after another; what is asked for is a batch.

    Give it to a `torch.utils.data.DataLoader` with a `stgraph.data.token_budget.TokenBudgetSampler`
    and ``batch_size=None``: a batch is gathered
    at once, not cell by cell.

    Parameters
    ----------
    slices
        Tokens of the cells of each slice, with values or without; every cell has at least one. They may be
        memory-mapped.
    neighbors
        For each slice, an (N, N) CSR matrix whose entries say who is whose neighbour. Then batches know which of
        their cells are neighbours.

    Attributes
    ----------
    lengths
        (N,) tokens of each cell.
    first
        Number of the first cell of each slice, and N behind.
    neighbor_lists
        Neighbours of all cells by number, CSR: indptr (N + 1,) and indices; None without neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from torch.utils.data import DataLoader
    >>> from stgraph.data.cell_sequences import CellSequences
    >>> from stgraph.data.token_budget import TokenBudgetSampler
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> cells = CellSequences([RaggedTokens(np.array([9, 2, 3, 9, 4, 9], np.int32), np.array([0, 3, 5, 6]))])
    >>> cells[[2, 0]].tokens
    tensor([9, 9, 2, 3])
    >>> loader = DataLoader(cells, sampler=TokenBudgetSampler(cells, max_tokens=3), batch_size=None)
    >>> sorted(batch.num_tokens for batch in loader)
    [1, 2, 3]
    """

    def __init__(
        self,
        slices: Sequence[RaggedTokens],
        *,
        neighbors: Sequence[sp.csr_matrix] | None = None,
    ) -> None:
        self.slices = list(slices)
        with_values = {ragged.values is not None for ragged in self.slices}
        if len(with_values) != 1:
            raise InputError("CellSequences needs the tokens of at least one slice, all with values or all without.")
        self.lengths = np.concatenate([np.diff(ragged.indptr) for ragged in self.slices]).astype(np.int64)
        self.first = np.cumsum([0, *(len(ragged) for ragged in self.slices)])
        self._check_lengths()
        self.neighbor_lists = None if neighbors is None else self._joined(list(neighbors))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, cells: int | Sequence[int] | NDArray[np.integer]) -> CellBatch:
        """A batch of the cells asked for, in that order."""
        chosen = np.atleast_1d(np.asarray(cells, dtype=np.int64))
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise IndexError(f"There are {len(self)} cells, so none has the number {chosen.min()} or {chosen.max()}.")
        offsets = np.concatenate([[0], np.cumsum(self.lengths[chosen])])
        tokens = np.empty(offsets[-1], dtype=np.int64)
        values = None if self.slices[0].values is None else np.empty(offsets[-1], dtype=np.float32)
        slice_of = np.searchsorted(self.first, chosen, side="right") - 1
        for which in np.unique(slice_of):
            rows = np.flatnonzero(slice_of == which)
            ragged, lengths = self.slices[which], self.lengths[chosen[rows]]
            source = runs(ragged.indptr[chosen[rows] - self.first[which]], lengths)
            target = runs(offsets[rows], lengths)
            tokens[target] = ragged.tokens[source]
            if values is not None and ragged.values is not None:
                values[target] = ragged.values[source]
        return CellBatch(
            tokens=torch.from_numpy(tokens),
            offsets=torch.from_numpy(offsets),
            cell=torch.from_numpy(chosen),
            values=None if values is None else torch.from_numpy(values),
            partner=None if self.neighbor_lists is None else torch.from_numpy(_partners(chosen, *self.neighbor_lists)),
        )

    def _check_lengths(self) -> None:
        if (self.lengths < 1).any():
            cell = int(np.argmin(self.lengths))
            which = int(np.searchsorted(self.first, cell, side="right")) - 1
            raise InputError(
                f"Cell {cell - self.first[which]} of slice {which} (both from 0) has no token: tokenise with a class "
                "token, or leave out empty cells."
            )

    def _joined(self, neighbors: list[sp.csr_matrix]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        found, needed = [matrix.shape for matrix in neighbors], [(len(ragged),) * 2 for ragged in self.slices]
        if found != needed:
            raise InputError(f"The neighbours of the slices are matrices of shape {found}, not {needed}.")
        patterns = [sp.csr_matrix(matrix).sorted_indices() for matrix in neighbors]
        degree = np.concatenate([np.diff(pattern.indptr) for pattern in patterns])
        numbers = [
            pattern.indices.astype(np.int64) + first for pattern, first in zip(patterns, self.first[:-1], strict=True)
        ]
        return np.concatenate([[0], np.cumsum(degree, dtype=np.int64)]), np.concatenate(numbers)


def _partners(chosen: NDArray[np.int64], indptr: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs (P, 2) of rows of a batch whose cells are neighbours."""
    order = np.argsort(chosen, kind="stable")
    ranked = chosen[order]
    if (np.diff(ranked) == 0).any():
        raise InputError("A cell was asked for twice in one batch, so it is not clear which is whose neighbour.")
    degree = indptr[chosen + 1] - indptr[chosen]
    other = indices[runs(indptr[chosen], degree)]
    own = np.repeat(np.arange(len(chosen)), degree)
    place = np.minimum(np.searchsorted(ranked, other), max(len(ranked) - 1, 0))
    here = (ranked[place] == other) & (other != chosen[own])
    return np.stack([own[here], order[place[here]]], axis=1).astype(np.int64)
