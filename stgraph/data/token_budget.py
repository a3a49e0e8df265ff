"""The order that cells are trained on: batches of so many tokens, each cell once in an epoch."""

import itertools
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stgraph._compiled import compiled
from stgraph.data.epoch_batches import EpochBatches
from stgraph.data.runs import runs
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole


class HasLengths(Protocol):
    """A data set of sequences, asked for by number.

    Attributes
    ----------
    lengths
        (N,) tokens of each.
    neighbor_lists
        Who is whose neighbour, CSR: indptr (N + 1,) and indices; or None.
    """

    lengths: NDArray[np.int64]
    neighbor_lists: tuple[NDArray[np.int64], NDArray[np.int64]] | None

    def __len__(self) -> int:
        """N."""
        ...


class TokenBudgetSampler(EpochBatches):
    """Every cell once in an epoch, in batches of bounded size.

    The order is a function of ``random_state`` and the epoch alone, so training can go on at any batch of any epoch.

    Parameters
    ----------
    cells
        The data set.
    max_tokens
        Most tokens of a batch; at least those of the longest cell.
    max_cells
        Most cells of a batch.
    num_neighbors
        Neighbours that are put into the batch of a cell, as long as they are not in another: for objectives that
        compare neighbours. 0 for a random order.
    pool_batches
        Batches whose cells are sorted by length among themselves, so that those of a batch are alike. Attention is
        computed in groups of equal length, a few faster than many, but a batch is then one band of lengths, that is of
        depths: 1, which leaves them random, for training.
    random_state
        Seed.

    Attributes
    ----------
    epoch
        Whose batches it iterates over; see `set_epoch`.
    """

    def __init__(
        self,
        cells: HasLengths,
        *,
        max_tokens: int,
        max_cells: int | None = None,
        num_neighbors: int = 0,
        pool_batches: int = 1,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        self.cells = cells
        self.max_tokens = max_tokens
        self.max_cells = max_cells
        self.num_neighbors = num_neighbors
        self.pool_batches = pool_batches
        self.random_state = random_state
        check_budget(cells.lengths, max_tokens)
        for name, least in (("num_neighbors", 0), ("pool_batches", 1), ("random_state", 0)):
            check_whole(self, name, least)
        if max_cells is not None:
            check_whole(self, "max_cells")
        if len(cells) == 0:
            raise InputError("TokenBudgetSampler was given no cells, so there is nothing to make batches of.")
        if num_neighbors and cells.neighbor_lists is None:
            raise InputError("TokenBudgetSampler was asked for neighbours, but the data set was not given any.")

    def _make(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self.random_state, epoch])
        order = rng.permutation(len(self.cells))
        begins = np.ones(len(order), dtype=np.bool_)
        if self.num_neighbors and self.cells.neighbor_lists is not None:
            order, begins = neighbor_groups(*self.cells.neighbor_lists, order, self.num_neighbors)
        if self.pool_batches > 1:
            order, begins = self._like_lengths(order, begins)
        ends = cut_by_budget(self.cells.lengths[order], self.max_tokens, self.max_cells, begins=begins)
        batches = [order[begin:end] for begin, end in itertools.pairwise(ends)]
        return [batches[which] for which in rng.permutation(len(batches))]

    def _like_lengths(
        self, order: NDArray[np.int64], begins: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Sort groups by their mean length within pools of some batches."""
        lengths = self.cells.lengths[order]
        group = np.cumsum(begins) - 1
        size = np.bincount(group)
        mean = np.bincount(group, weights=lengths) / size
        # Groups that begin within the same stretch of tokens are a pool.
        tokens_of_batch = self.max_tokens
        if self.max_cells is not None:
            tokens_of_batch = min(tokens_of_batch, int(np.ceil(self.max_cells * lengths.mean())))
        pool = (np.cumsum(lengths) - lengths)[begins] // (self.pool_batches * tokens_of_batch)
        ranked = np.lexsort([mean, pool])
        moved = runs(np.flatnonzero(begins)[ranked], size[ranked])
        return order[moved], begins[moved]


def check_budget(lengths: NDArray[np.int64], max_tokens: int) -> None:
    """Refuse a budget that the longest cell alone would break.

    Parameters
    ----------
    lengths
        (N,) tokens of each cell.
    max_tokens
        Most tokens of a batch.

    Raises
    ------
    InputError
        If a cell is longer.
    """
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int | np.integer) or max_tokens < 1:
        raise InputError(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}.")
    if len(lengths) and lengths.max() > max_tokens:
        raise InputError(
            f"Cell {int(np.argmax(lengths))} has {lengths.max()} tokens, more than the {max_tokens} of a batch: raise "
            "max_tokens, or tokenise with a smaller max_length."
        )


def cut_by_budget(
    lengths: NDArray[np.int64],
    max_tokens: int,
    max_cells: int | None = None,
    *,
    begins: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Where batches end, if sequences are taken in order as long as they fit.

    Parameters
    ----------
    lengths
        (N,) tokens of each sequence, none more than ``max_tokens``.
    max_tokens
        Most tokens of a batch.
    max_cells
        Most sequences of a batch.
    begins
        (N,) whether a group begins here. A batch ends between groups wherever it holds a whole one; a group too
        large for a batch is cut.

    Returns
    -------
    ndarray
        (B + 1,) int64 from 0 to N.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.token_budget import cut_by_budget
    >>> cut_by_budget(np.array([2, 2, 1, 3, 1]), 4).tolist()
    [0, 2, 4, 5]
    """
    total = np.concatenate([[0], np.cumsum(lengths)])
    starts = None if begins is None else np.append(np.flatnonzero(begins), len(lengths))
    ends = [0]
    while ends[-1] < len(lengths):
        here = ends[-1]
        end = int(np.searchsorted(total, total[here] + max_tokens, side="right")) - 1
        if max_cells is not None:
            end = min(end, here + max_cells)
        if starts is not None:
            between = int(starts[np.searchsorted(starts, end, side="right") - 1])
            end = between if between > here else end
        ends.append(end)
    return np.array(ends, dtype=np.int64)


def neighbor_groups(
    indptr: NDArray[np.int64], indices: NDArray[np.int64], order: NDArray[np.int64], num_neighbors: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Put every cell once, with neighbours behind it that are not elsewhere yet.

    Parameters
    ----------
    indptr, indices
        Neighbours of N cells, CSR.
    order
        (N,) who chooses first; of its neighbours, a cell takes those that come first in this order.
    num_neighbors
        Most neighbours that a cell takes along.

    Returns
    -------
    cells : ndarray
        (N,) a permutation.
    begins : ndarray
        (N,) whether a cell chose, so that a group begins.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.token_budget import neighbor_groups
    >>> chain = np.array([0, 1, 3, 5, 6]), np.array([1, 0, 2, 1, 3, 2])
    >>> [array.tolist() for array in neighbor_groups(*chain, np.array([1, 3, 0, 2]), 1)]
    [[1, 0, 3, 2], [True, False, True, False]]
    """
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    cells, begins = _group(indptr, indices, order, rank, num_neighbors)
    return cells, begins


@compiled
def _group(indptr, indices, order, rank, num_neighbors):  # type: ignore[no-untyped-def]
    taken = np.zeros(len(order), dtype=np.bool_)
    cells = np.empty(len(order), dtype=np.int64)
    begins = np.zeros(len(order), dtype=np.bool_)
    size = 0
    for cell in order:
        if taken[cell]:
            continue
        taken[cell] = True
        begins[size] = True
        cells[size] = cell
        size += 1
        for _ in range(num_neighbors):
            best = -1
            for position in range(indptr[cell], indptr[cell + 1]):
                other = indices[position]
                if not taken[other] and (best < 0 or rank[other] < rank[best]):
                    best = other
            if best < 0:
                break
            taken[best] = True
            cells[size] = best
            size += 1
    return cells, begins
