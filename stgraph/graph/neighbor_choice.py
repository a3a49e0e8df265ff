"""Ways to say which cells are read with a cell: the nearest, those a graph names, or random ones for comparison."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.neighborhoods import Neighborhoods, neighborhoods, neighborhoods_of
from stgraph.preprocess.ragged_tokens import RaggedTokens


class NeighborChoice(Protocol):
    """Says which cells a network reads with each cell of a slice.

    Attributes
    ----------
    n_neighbors
        Most neighbours of a cell.
    """

    @property
    def n_neighbors(self) -> int: ...  # noqa: D102  as above

    def __call__(self, pos: NDArray[np.float64], cells: RaggedTokens) -> tuple[RaggedTokens, Neighborhoods]:
        """Neighbours of the cells of one slice.

        Parameters
        ----------
        pos
            (N, 2) positions.
        cells
            Genes and counts of the N cells.

        Returns
        -------
        cells : RaggedTokens
            The same; behind them there may be some that are neighbours only.
        neighborhoods : Neighborhoods
            (N, n_neighbors + 1), each cell itself in column 0.
        """
        ...


@dataclass(frozen=True)
class NearestCells:
    """The nearest cells, as AIDO.Tissue reads them, however far they are.

    Parameters
    ----------
    n_neighbors
        How many: 8, 16, 32 or 64 in pretraining, 10 in fine-tuning.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.neighbor_choice import NearestCells
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> cells = RaggedTokens(np.array([5, 6, 7], dtype=np.int32), np.arange(4))
    >>> NearestCells(1)(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), cells)[1].index.tolist()
    [[0, 1], [1, 0], [2, 1]]
    """

    n_neighbors: int = 16

    def __post_init__(self) -> None:
        check_whole(self, "n_neighbors")

    def __call__(self, pos: NDArray[np.float64], cells: RaggedTokens) -> tuple[RaggedTokens, Neighborhoods]:
        """See `stgraph.graph.neighborhoods.neighborhoods`.

        Raises
        ------
        InputError
            If there are not more than ``n_neighbors`` cells.
        """
        check_enough(len(pos), self.n_neighbors)
        return cells, neighborhoods(pos, self.n_neighbors)


@dataclass(frozen=True)
class GraphNeighbors:
    """The nearest of the neighbours that a graph names; a cell may have fewer, or none.

    Parameters
    ----------
    builder
        Positions to a graph: a radius, a triangulation, or one of your own.
    n_neighbors
        Most of them.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import Radius
    >>> from stgraph.graph.neighbor_choice import GraphNeighbors
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> cells = RaggedTokens(np.array([5, 6, 7], dtype=np.int32), np.arange(4))
    >>> GraphNeighbors(Radius(1.5), 2)(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), cells)[1].index.tolist()
    [[0, 1, -1], [1, 0, -1], [2, -1, -1]]
    """

    builder: GraphBuilder
    n_neighbors: int = 16

    def __post_init__(self) -> None:
        check_whole(self, "n_neighbors")

    def __call__(self, pos: NDArray[np.float64], cells: RaggedTokens) -> tuple[RaggedTokens, Neighborhoods]:
        """See `stgraph.graph.neighborhoods.neighborhoods_of`."""
        return cells, neighborhoods_of(self.builder(pos), self.n_neighbors)


@dataclass(frozen=True)
class RandomCells:
    """Random cells of the slice in place of neighbours: what is left of a result is not due to the surroundings.

    Unlike those of the release, none is the cell itself, and none is there twice. They stand in the order of their
    distance, as neighbours do.

    Parameters
    ----------
    n_neighbors
        How many.
    random_state
        Seed.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.neighbor_choice import RandomCells
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> cells = RaggedTokens(np.array([5, 6, 7], dtype=np.int32), np.arange(4))
    >>> RandomCells(2)(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), cells)[1].index.tolist()
    [[0, 1, 2], [1, 0, 2], [2, 1, 0]]
    """

    n_neighbors: int = 16
    random_state: int = 0

    def __post_init__(self) -> None:
        check_whole(self, "n_neighbors")
        check_whole(self, "random_state", least=0)

    def __call__(self, pos: NDArray[np.float64], cells: RaggedTokens) -> tuple[RaggedTokens, Neighborhoods]:
        """Random cells.

        Raises
        ------
        InputError
            If there are not more than ``n_neighbors`` cells.
        """
        check_enough(len(pos), self.n_neighbors)
        rng = np.random.default_rng(self.random_state)
        own = np.arange(len(pos))
        others = np.stack([rng.choice(len(pos) - 1, self.n_neighbors, replace=False) for _ in own])
        others += others >= own[:, None]  # all but the cell itself
        distance = np.linalg.norm(pos[others] - pos[:, None], axis=2)
        order = np.lexsort([others, distance], axis=1)
        index = np.column_stack([own, np.take_along_axis(others, order, axis=1)])
        length = np.column_stack([np.zeros(len(pos)), np.take_along_axis(distance, order, axis=1)])
        return cells, Neighborhoods(index.astype(np.int64), length)


def check_enough(n_cells: int, n_neighbors: int) -> None:
    """Refuse a slice with too few cells for so many neighbours.

    Raises
    ------
    InputError
        If there are not more than ``n_neighbors``.
    """
    if n_cells <= n_neighbors:
        raise InputError(
            f"A slice has {n_cells} cells, and {n_neighbors} neighbours of each need {n_neighbors + 1} at least: "
            f"leave the slice out, or take n_neighbors={max(n_cells - 1, 1)} or fewer, or the neighbours that a graph "
            "names (GraphNeighbors), which may be fewer."
        )
