"""Steps that take edges out of a graph, one small class for each."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from stgraph.errors import InputError, StgraphWarning
from stgraph.graph import edge_sets
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.graph.nearest import TIE


@dataclass(frozen=True)
class MaxLength:
    """Drops edges longer than ``max_length``.

    Each direction of an edge is as long as the other, so a symmetric graph stays
    symmetric and a directed one loses whichever directions it has.

    Parameters
    ----------
    max_length
        Largest length of an edge, microns; as long as this is still kept.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.pruning import MaxLength
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    >>> MaxLength(5.0)(KNN(1)(pos), pos).nnz
    2
    """

    max_length: float

    in_microns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(self, "max_length", " in microns")

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        return edge_sets.kept(near, near.data <= self.max_length * (1 + TIE))


@dataclass(frozen=True)
class LengthPercentile:
    """Drops edges longer than a percentile of all edge lengths.

    Edges as long as the percentile stay, so a lattice of one edge length loses none.
    Self-loops stay and do not count. In a directed graph each direction counts as an
    edge.

    Parameters
    ----------
    percentile
        Between 0 and 100; 99 drops at most the longest hundredth.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.pruning import LengthPercentile
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    >>> LengthPercentile(60.0)(KNN(1)(pos), pos).nnz
    4
    """

    percentile: float = 99.0

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise InputError(f"LengthPercentile needs a percentile between 0 and 100, not {self.percentile}.")

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        own = edge_sets.rows(near) == near.indices
        lengths = near.data[~own]
        longest = np.percentile(lengths, self.percentile) if len(lengths) else 0.0
        return edge_sets.kept(near, own | (near.data <= longest * (1 + TIE)))


@dataclass(frozen=True)
class Mutual:
    """Keeps the edges whose reverse is there: the intersection of a graph with its reverse.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.pruning import Mutual
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> Mutual()(KNN(1, symmetric=False)(pos), pos).nnz
    2
    """

    in_microns: ClassVar[bool] = False

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        near = edge_sets.in_order(near)
        return edge_sets.kept(near, edge_sets.reverse(near) >= 0)


@dataclass(frozen=True)
class MaxNeighbors:
    """Keeps the nearest ``max_neighbors`` of each cell, and says what that removed.

    An edge stays if it is among the nearest of both its ends, so no cell has more
    neighbours than that, some have fewer, and a symmetric graph stays symmetric. An edge
    of a directed graph that has no reverse is judged by its own row only. Of cells that
    tie at the cap those of lower index stay, so on a lattice the result depends on the
    order of the cells. Self-loops stay and do not count.

    Parameters
    ----------
    max_neighbors
        Most neighbours of a cell.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from stgraph.graph.builders import Radius
    >>> from stgraph.graph.pruning import MaxNeighbors
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     capped = MaxNeighbors(1)(Radius(5.0)(pos), pos)
    >>> capped.nnz
    2
    >>> print(said[0].message)
    MaxNeighbors(1): 3 of 3 cells had more than 1 neighbours; 2 edges were removed.
    """

    max_neighbors: int

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_whole(self, "max_neighbors")

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`; warns `StgraphWarning` if an edge is removed."""
        near = edge_sets.in_order(near)
        nearest, n_above = edge_sets.nearest(near, self.max_neighbors, TIE)
        if n_above == 0:
            return near.copy()
        reverse = edge_sets.reverse(near)
        keep = nearest & ((reverse < 0) | nearest[reverse])
        # An edge of both directions is one edge.
        n_removed = int(np.count_nonzero(~keep & ((reverse < 0) | (reverse > np.arange(near.nnz)))))
        warnings.warn(
            f"MaxNeighbors({self.max_neighbors}): {n_above} of {near.shape[0]} cells had more than "
            f"{self.max_neighbors} neighbours; {n_removed} edges were removed.",
            StgraphWarning,
            stacklevel=2,
        )
        return edge_sets.kept(near, keep)


@dataclass(frozen=True)
class LargestComponent:
    """Keeps the edges of the largest connected component, and says how many cells lost theirs.

    The cells of the other components stay in the graph, isolated. Components are those of
    the undirected graph; of equally large ones that of the cell of lowest index counts as
    largest.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from stgraph.graph.builders import Radius
    >>> from stgraph.graph.pruning import LargestComponent
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [8.0, 0.0], [9.0, 0.0]])
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     largest = LargestComponent()(Radius(1.0)(pos), pos)
    >>> np.diff(largest.indptr)
    array([1, 2, 1, 0, 0], dtype=int32)
    >>> print(said[0].message)
    LargestComponent: 2 of 5 cells are outside the largest component (3 cells) and lost their edges.
    """

    in_microns: ClassVar[bool] = False

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`; warns `StgraphWarning` if an edge is removed."""
        _, component = connected_components(near, directed=False)
        size = np.bincount(component)
        # Components are numbered as their first cells are.
        outside = component != size.argmax() if len(size) else np.zeros(0, dtype=bool)
        keep = ~outside[near.indices]
        n_lost = len(np.union1d(edge_sets.rows(near)[~keep], near.indices[~keep]))
        if n_lost:
            warnings.warn(
                f"LargestComponent: {n_lost} of {near.shape[0]} cells are outside the largest component "
                f"({size.max()} cells) and lost their edges.",
                StgraphWarning,
                stacklevel=2,
            )
        return edge_sets.kept(near, keep)
