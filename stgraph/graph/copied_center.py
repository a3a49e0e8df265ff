"""Noisy copies of a cell in the places of its neighbours, for comparison."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.graph.neighborhoods import Neighborhoods
from stgraph.preprocess.ragged_tokens import RaggedTokens

_BLOCK = 2**22
"""Counts made at once."""


@dataclass(frozen=True)
class CopiedCenter:
    """Noisy copies of the cell in place of neighbours: what is left of a result is not due to other cells.

    As in the release of AIDO.Tissue, to the count of each gene a Poisson number is added, of mean ``rate`` times the
    count, or ``rate`` where the count is 0. There it is added to all genes of the vocabulary, here to those with
    counts in the slice, so that a panel stays a panel. All copies are made and kept: N x ``n_neighbors`` further
    cells.

    A `stgraph.graph.neighbor_choice.NeighborChoice`.

    Parameters
    ----------
    n_neighbors
        How many.
    rate
        Of the noise.
    random_state
        Seed.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.copied_center import CopiedCenter
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> cells = RaggedTokens(np.array([4, 4], np.int32), np.arange(3), np.ones(2, np.float32))
    >>> copied, around = CopiedCenter(2)(np.zeros((2, 2)), cells)
    >>> len(copied), around.index.tolist()
    (6, [[0, 2, 3], [1, 4, 5]])
    """

    n_neighbors: int = 16
    rate: float = 0.2
    random_state: int = 0

    def __post_init__(self) -> None:
        check_whole(self, "n_neighbors")
        check_positive(self, "rate")
        check_whole(self, "random_state", 0)

    def __call__(self, pos: NDArray[np.float64], cells: RaggedTokens) -> tuple[RaggedTokens, Neighborhoods]:
        """The cells with their copies behind them, those of one cell after one another, at distance 0.

        Raises
        ------
        InputError
            If the tokens have no counts as values.
        """
        if cells.values is None:
            raise InputError("CopiedCenter adds noise to counts, but the cells have none: take expressed_genes.")
        n, rng, genes = len(cells), np.random.default_rng(self.random_state), np.unique(cells.tokens)
        step = max(1, _BLOCK // max(1, len(genes) * self.n_neighbors))
        blocks = [cells.take(np.arange(i, min(i + step, n))) for i in range(0, n, step)]
        index = np.c_[np.arange(n), n + np.arange(n * self.n_neighbors).reshape(n, self.n_neighbors)]
        copied = RaggedTokens.joined([cells, *(self._copies(block, genes, rng) for block in blocks)])
        return copied, Neighborhoods(index, np.zeros(index.shape))

    def _copies(self, cells: RaggedTokens, genes: NDArray[np.int32], rng: np.random.Generator) -> RaggedTokens:
        counts = np.zeros((len(cells), len(genes)))
        counts[np.repeat(np.arange(len(cells)), cells.lengths), np.searchsorted(genes, cells.tokens)] = cells.values
        mean = np.repeat(np.where(counts > 0, counts, 1.0) * self.rate, self.n_neighbors, axis=0)
        noisy = np.repeat(counts, self.n_neighbors, axis=0) + rng.poisson(mean)
        row, column = np.nonzero(noisy)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(noisy)))]).astype(np.int64)
        return RaggedTokens(genes[column], indptr, noisy[row, column].astype(np.float32))
