"""Neighbourhoods of many slices as a data set: centres with their neighbours, gathered from ragged tokens."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stgraph._chunks import in_chunks
from stgraph.data.cell_batch import CellBatch
from stgraph.data.depth_values import CellDepth, DepthValues
from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.data.neighborhood_kernels import gather_cells, neighborhood_lengths, number_distinct
from stgraph.errors import InputError
from stgraph.graph.neighborhoods import Neighborhoods
from stgraph.preprocess.ragged_tokens import RaggedTokens

_CELL_DEPTH = CellDepth()


class NeighborhoodSequences(Dataset[NeighborhoodBatch]):
    """Cells of many slices, numbered one slice after another; what is asked for is a batch of neighbourhoods.

    Give it to a `torch.utils.data.DataLoader` with a `stgraph.data.token_budget.TokenBudgetSampler` or
    `stgraph.data.spatial_batches.SpatialBatches` and ``batch_size=None``. A batch is gathered at once from the ragged
    arrays: nothing as wide as the vocabulary is made, and a cell that is near to several centres is there once.

    Parameters
    ----------
    slices
        Genes and raw counts of the cells of each slice, as `stgraph.preprocess.expressed_genes.expressed_genes` gives
        them. They may be memory-mapped.
    neighborhoods
        For each slice the cells around each of its cells, itself in the first column, as a
        `stgraph.graph.neighbor_choice.NeighborChoice` gives them. All slices with the same number of columns. There
        may be more cells in ``slices`` than rows here: they are neighbours only, have no number, and stand in
        batches as cell -1.
    panels
        For each slice the genes that were measured, rising: ``alignment.panel``.
    num_genes
        G, genes of the vocabulary; G and G + 1 are the depth tokens.
    depth
        What makes values of counts.

    Attributes
    ----------
    lengths
        (N,) tokens of each neighbourhood, depth tokens included.
    first
        Number of the first cell of each slice, and N behind.
    begin
        Place of the first cell of each slice, and V behind: as ``first``, cells that are neighbours only counted too.
    cell_tokens
        (V,) tokens of the cell at each place.
    panels
        The different panels, as tensors.
    neighbor_lists
        None: batches that keep neighbours together are made by `stgraph.data.spatial_batches.SpatialBatches`.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.neighborhood_sequences import NeighborhoodSequences
    >>> from stgraph.graph.neighborhoods import neighborhoods
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> counts = np.array([1, 1, 3, 2, 5], dtype=np.float32)
    >>> slice_ = RaggedTokens(np.array([0, 2, 1, 0, 1], np.int32), np.array([0, 2, 3, 5]), counts)
    >>> around = neighborhoods(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), 1)
    >>> cells = NeighborhoodSequences([slice_], [around], [np.arange(3)], num_genes=3)
    >>> batch = cells[[0, 2]]
    >>> batch.neighbors.tolist(), batch.unique.cell.tolist(), batch.unique.tokens.tolist()
    ([[0, 1], [2, 1]], [0, 1, 2], [0, 2, 3, 4, 1, 3, 4, 0, 1, 3, 4])
    """

    def __init__(
        self,
        slices: Sequence[RaggedTokens],
        neighborhoods: Sequence[Neighborhoods],
        panels: Sequence[NDArray[np.integer]],
        *,
        num_genes: int,
        depth: DepthValues = _CELL_DEPTH,
    ) -> None:
        self.slices, self.neighborhoods, self.num_genes, self.depth = (
            list(slices),
            list(neighborhoods),
            num_genes,
            depth,
        )
        self._check(panels)
        self.neighbor_lists: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self.first = np.cumsum([0, *(len(around) for around in self.neighborhoods)])
        # Neighbours that are no cells of the data set need a place, but no number.
        self.begin = np.cumsum([0, *(len(ragged) for ragged in self.slices)])
        self._extra = 2 if depth.depth_tokens else 0
        self._panel_of, self.panels = _distinct(panels)
        own_tokens = np.concatenate([np.diff(ragged.indptr) for ragged in self.slices])
        self.cell_tokens: NDArray[np.int64] = own_tokens.astype(np.int64) + self._extra
        self._check_tokens()
        self.lengths: NDArray[np.int64] = np.empty(len(self), dtype=np.int64)
        for which, around in enumerate(self.neighborhoods):
            own = self.cell_tokens[self.begin[which] : self.begin[which + 1]]
            out = self.lengths[self.first[which] : self.first[which + 1]]
            in_chunks(neighborhood_lengths, len(around), around.index, own, out)

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, cells: int | Sequence[int] | NDArray[np.integer]) -> NeighborhoodBatch:
        """The neighbourhoods of the cells asked for, in that order."""
        chosen = np.atleast_1d(np.asarray(cells, dtype=np.int64))
        table, distance = self.around(chosen)
        rows, distinct, slot = self._distinct_cells(table)
        return NeighborhoodBatch(
            unique=self._gathered(distinct, torch.from_numpy(slot)),
            neighbors=torch.from_numpy(rows),
            distance=torch.from_numpy(distance),
            panel=torch.from_numpy(self._panel_of[self._slice_of(chosen)]),
            panels=self.panels,
        )

    def around(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Who is in some neighbourhoods.

        Parameters
        ----------
        chosen
            (S,) numbers of cells.

        Returns
        -------
        places : ndarray
            (S, K + 1) int64 place of each cell, itself in column 0; -1 where there is none.
        distance : ndarray
            (S, K + 1) float32.
        """
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise IndexError(f"There are {len(self)} cells, so none has the number {chosen.min()} or {chosen.max()}.")
        slice_of = self._slice_of(chosen)
        shape = (len(chosen), self.neighborhoods[0].index.shape[1])
        table, distance = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32)
        for which in np.unique(slice_of):
            of_slice = np.flatnonzero(slice_of == which)
            around, own = self.neighborhoods[which], chosen[of_slice] - self.first[which]
            index = around.index[own]
            table[of_slice] = np.where(index >= 0, index + self.begin[which], -1)
            distance[of_slice] = around.distance[own]
        return table, distance

    def at(self, places: NDArray[np.int64]) -> CellBatch:
        """The cells at some places, without their neighbours; of a ``depth`` whose values are those of a cell alone."""
        return self._gathered(places, torch.zeros(len(places), dtype=torch.int64))

    def _slice_of(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.first, cells, side="right") - 1

    def _distinct_cells(
        self, table: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Row of each cell of a table among the distinct ones, and the place and the slot of these."""
        if not self.depth.of_cell:
            there = table >= 0
            rows = np.where(there, np.cumsum(there).reshape(table.shape) - 1, -1)
            return rows, table[there], np.nonzero(there)[1]
        rows, distinct = np.empty_like(table), np.empty(table.size, dtype=np.int64)
        size = number_distinct(table, np.zeros(len(self.cell_tokens), dtype=np.int32), rows, distinct)
        return rows, distinct[:size], np.zeros(size, dtype=np.int64)

    def _gathered(self, places: NDArray[np.int64], slot: Tensor) -> CellBatch:
        """The tokens of cells with their values."""
        offsets = np.concatenate([[0], np.cumsum(self.cell_tokens[places])])
        tokens, counts = np.empty(offsets[-1], dtype=np.int64), np.zeros(offsets[-1], dtype=np.float32)
        slice_of = np.searchsorted(self.begin, places, side="right") - 1
        number = np.empty_like(places)
        for which in np.unique(slice_of):
            of_slice = np.flatnonzero(slice_of == which)
            ragged, first = self.slices[which], self.begin[which]
            arrays = ragged.indptr, ragged.tokens, ragged.values
            gather_cells(of_slice, places, first, *arrays, offsets, tokens, counts)
            local = places[of_slice] - first
            number[of_slice] = np.where(local < len(self.neighborhoods[which]), local + self.first[which], -1)
        return self._with_values(
            torch.from_numpy(tokens), torch.from_numpy(counts), torch.from_numpy(offsets), number, slot
        )

    def _with_values(
        self, tokens: Tensor, counts: Tensor, offsets: Tensor, number: NDArray[np.int64], slot: Tensor
    ) -> CellBatch:
        """Cells with values for their counts, and with the depth tokens they have places for."""
        values, of_depth = self.depth(counts, offsets, slot)
        for which in range(self._extra):
            last = offsets[1:] - self._extra + which
            tokens[last], values[last] = self.num_genes + which, of_depth
        return CellBatch(tokens, offsets, torch.from_numpy(number), values)

    def _check(self, panels: Sequence[NDArray[np.integer]]) -> None:
        number = len(self.slices)
        if not number or len(self.neighborhoods) != number or len(panels) != number:
            raise InputError(
                "NeighborhoodSequences needs tokens, neighbourhoods and a panel of each of at least one slice, not "
                f"{number}, {len(self.neighborhoods)} and {len(panels)}."
            )
        widths = {around.index.shape[1] for around in self.neighborhoods}
        if len(widths) != 1:
            raise InputError(f"The neighbourhoods of the slices must have equally many cells, not {sorted(widths)}.")
        for which, (ragged, around, panel) in enumerate(zip(self.slices, self.neighborhoods, panels, strict=True)):
            problem = _problem(ragged, around, np.asarray(panel), self.num_genes)
            if problem:
                raise InputError(f"Slice {which} (from 0) {problem}")

    def _check_tokens(self) -> None:
        if (self.cell_tokens < 1).any():
            place = int(np.argmin(self.cell_tokens))
            which = int(np.searchsorted(self.begin, place, side="right")) - 1
            raise InputError(
                f"Cell {place - self.begin[which]} of slice {which} (both from 0) has no counts of any gene of the "
                "list: leave out empty cells, or use depth tokens."
            )


def _problem(ragged: RaggedTokens, around: Neighborhoods, panel: NDArray[np.integer], num_genes: int) -> str:
    """What is wrong with a slice; "" for nothing."""
    index, n = around.index, len(around)
    if ragged.values is None:
        return "has tokens without counts: take them from expressed_genes."
    if n > len(ragged) or index.min(initial=-1) < -1 or index.max(initial=-1) >= len(ragged):
        return f"has {len(ragged)} cells with tokens, but neighbourhoods of {n} cells with others in them."
    if not np.array_equal(index[:, 0], np.arange(n)):
        return "has neighbourhoods without the cell itself in the first column: make them with include_self=True."
    measured = np.zeros(num_genes, dtype=bool)
    if len(panel) and not (panel[0] >= 0 and panel[-1] < num_genes and (np.diff(panel) > 0).all()):
        return f"has a panel that does not rise from 0 to {num_genes - 1} at most: take it from the alignment."
    measured[panel] = True
    tokens = ragged.tokens
    if len(tokens) and not (tokens.min() >= 0 and tokens.max() < num_genes and measured[tokens].all()):
        return "has tokens of genes that are not in its panel: take both from the same alignment."
    return ""


def _distinct(panels: Sequence[NDArray[np.integer]]) -> tuple[NDArray[np.int64], tuple[Tensor, ...]]:
    """Which panel each slice has, and the different ones."""
    numbers: dict[bytes, int] = {}
    whole = [np.asarray(panel, dtype=np.int64) for panel in panels]
    of_slice = np.array([numbers.setdefault(panel.tobytes(), len(numbers)) for panel in whole], dtype=np.int64)
    return of_slice, tuple(torch.from_numpy(np.frombuffer(panel, dtype=np.int64).copy()) for panel in numbers)
