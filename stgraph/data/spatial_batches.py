"""Batches of cells that lie together, so that their neighbourhoods overlap."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stgraph._compiled import compiled
from stgraph.data.epoch_batches import EpochBatches
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.token_budget import check_budget
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.graph.spatial_order import checked_positions
from stgraph.partition.space_filling import hilbert_order


class SpatialBatches(EpochBatches):
    """Every cell once in an epoch, in batches of cells of one place or a few.

    Neighbours are then mostly centres themselves or shared by several: with 64 neighbours each, 500 centres of one
    place are read with some 1,100 distinct cells, 500 random ones of a slice of 20,000 with 16,000. Cells of a place
    are alike, so that gradients are noisier than those of random cells; ``num_places`` weighs one against the other.

    The slice is turned by a random angle in each epoch and cut into runs along a Hilbert curve, so that batches are
    not the same in all. The order is a function of ``random_state`` and the epoch alone, so training can go on at any
    batch of any epoch.

    Parameters
    ----------
    cells
        The data set.
    pos
        (N, 2) positions of the cells of each slice, of any unit.
    max_tokens
        Most tokens of the distinct cells of the places of a batch: a cell that several centres of a place share counts
        once, unless ``cells`` have values that depend on the batch. A network that reads each neighbourhood anew reads
        many more.
    max_cells
        Most centres of a batch.
    num_places
        Places of a batch, of one slice or several; each has its share of ``max_tokens`` and ``max_cells``.
    random_state
        Seed.

    Attributes
    ----------
    epoch
        Whose batches it iterates over; see `set_epoch`.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.neighborhood_sequences import NeighborhoodSequences
    >>> from stgraph.data.spatial_batches import SpatialBatches
    >>> from stgraph.graph.neighborhoods import neighborhoods
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> pos = np.stack([np.arange(12.0), np.zeros(12)], axis=1)
    >>> tokens = RaggedTokens(np.zeros(12, np.int32), np.arange(13), np.ones(12, np.float32))
    >>> cells = NeighborhoodSequences([tokens], [neighborhoods(pos, 2)], [np.arange(1)], num_genes=1)
    >>> sorted(sorted(batch) for batch in SpatialBatches(cells, [pos], max_tokens=100, max_cells=6))
    [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    """

    def __init__(
        self,
        cells: NeighborhoodSequences,
        pos: Sequence[NDArray[np.float64]],
        *,
        max_tokens: int,
        max_cells: int | None = None,
        num_places: int = 1,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        self.cells = cells
        self.pos = [checked_positions(of_slice) for of_slice in pos]
        self.max_tokens = max_tokens
        self.max_cells = max_cells
        self.num_places = num_places
        self.random_state = random_state
        check_whole(self, "num_places")
        check_whole(self, "random_state", 0)
        check_whole(self, "max_tokens", num_places)
        if max_cells is not None:
            check_whole(self, "max_cells", num_places)
        found, needed = [len(of_slice) for of_slice in self.pos], np.diff(cells.first).tolist()
        if found != needed:
            raise InputError(
                f"SpatialBatches has positions of slices of {found} cells, but {needed} are to be trained on."
            )
        if len(cells) == 0:
            raise InputError("SpatialBatches was given no cells, so there is nothing to make batches of.")
        check_budget(cells.lengths, max_tokens // num_places)

    def _make(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self.random_state, epoch])
        budget = self.max_tokens // self.num_places
        most = None if self.max_cells is None else self.max_cells // self.num_places
        places: list[NDArray[np.int64]] = []
        for which, (first, pos) in enumerate(zip(self.cells.first[:-1], self.pos, strict=True)):
            order = hilbert_order(_turned(pos, rng.uniform(0, 2 * np.pi)))
            ends = self._ends(which, order, budget, most or len(order))
            places += [first + order[begin:end] for begin, end in itertools.pairwise(ends)]
        shuffled = [places[place] for place in rng.permutation(len(places))]
        step = self.num_places
        return [np.concatenate(shuffled[i : i + step]) for i in range(0, len(shuffled), step)]

    def _ends(self, which: int, order: NDArray[np.int64], budget: int, most: int) -> NDArray[np.int64]:
        """Where places end, if cells of a slice are taken in order as long as they fit."""
        cells = self.cells
        tokens = cells.cell_tokens[cells.begin[which] : cells.begin[which + 1]]
        ends = np.zeros(len(order) + 1, dtype=np.int64)
        size = _cut(order, cells.neighborhoods[which].index, tokens, cells.depth.of_cell, budget, most, ends)
        return ends[: size + 1]


@compiled
def _cut(order, index, tokens, shared, budget, most, ends):  # type: ignore[no-untyped-def]
    """Write where places end behind the 0 of ``ends``, and give how many there are."""
    place_of = np.full(len(tokens), -1, dtype=np.int64)  # the last place that a cell was counted in
    size = total = 0
    for i in range(len(order)):
        for _ in range(2):
            own = 0
            for cell in index[order[i]]:
                if cell >= 0 and not (shared and place_of[cell] == size):
                    place_of[cell] = size
                    own += tokens[cell]
            if i == ends[size] or (total + own <= budget and i - ends[size] < most):
                break
            size += 1  # the place is full: the cell begins another, where nothing is shared yet
            ends[size] = i
            total = 0
        total += own
    if len(order):
        size += 1
        ends[size] = len(order)
    return size


def _turned(pos: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(pos @ turn)
