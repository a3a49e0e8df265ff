"""Steps that change the edges of a graph, one small class for each, and their composition with a builder."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from stgraph.errors import InputError, StgraphWarning
from stgraph.graph import _edge_sets
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.edges import edges_to_csr, symmetrize
from stgraph.graph.nearest import TIE


class PostProcessor(Protocol):
    """Turns the edges of a slice into other edges of the same cells.

    Attributes
    ----------
    in_microns
        Whether the parameters are lengths in microns.
    """

    @property
    def in_microns(self) -> bool:
        """Whether it counts in microns."""
        ...

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Changed edges; the input stays as it is.

        Parameters
        ----------
        near
            (N, N) edge lengths, rows in increasing order of index. An explicit zero is an
            edge between coincident cells.
        pos
            (N, 2) positions.

        Returns
        -------
        csr_matrix
            (N, N) edge lengths of the same form.
        """
        ...


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
    >>> from stgraph.graph.postprocess import MaxLength
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    >>> MaxLength(5.0)(KNN(1)(pos), pos).nnz
    2
    """

    max_length: float

    in_microns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.max_length) and self.max_length > 0):
            raise InputError(f"MaxLength needs a positive max_length in microns, not {self.max_length}.")

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        return _edge_sets.kept(near, near.data <= self.max_length * (1 + TIE))


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
    >>> from stgraph.graph.postprocess import LengthPercentile
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
        own = _edge_sets.rows(near) == near.indices
        lengths = near.data[~own]
        longest = np.percentile(lengths, self.percentile) if len(lengths) else 0.0
        return _edge_sets.kept(near, own | (near.data <= longest * (1 + TIE)))


@dataclass(frozen=True)
class Symmetrize:
    """Adds the reverse of every edge: the union of a graph with its reverse.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.postprocess import Symmetrize
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> near = KNN(1, symmetric=False)(pos)
    >>> near.nnz, Symmetrize()(near, pos).nnz
    (3, 4)
    """

    in_microns: ClassVar[bool] = False

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        return symmetrize(near)


@dataclass(frozen=True)
class Mutual:
    """Keeps the edges whose reverse is there: the intersection of a graph with its reverse.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.postprocess import Mutual
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> Mutual()(KNN(1, symmetric=False)(pos), pos).nnz
    2
    """

    in_microns: ClassVar[bool] = False

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        near = _edge_sets.in_order(near)
        return _edge_sets.kept(near, _edge_sets.reverse(near) >= 0)


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
    >>> from stgraph.graph.postprocess import MaxNeighbors
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
        if self.max_neighbors < 1:
            raise InputError(f"MaxNeighbors needs max_neighbors of at least 1, not {self.max_neighbors}.")

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`; warns `StgraphWarning` if an edge is removed."""
        near = _edge_sets.in_order(near)
        nearest, n_above = _edge_sets.nearest(near, self.max_neighbors, TIE)
        if n_above == 0:
            return near.copy()
        reverse = _edge_sets.reverse(near)
        keep = nearest & ((reverse < 0) | nearest[reverse])
        # An edge of both directions is one edge.
        n_removed = int(np.count_nonzero(~keep & ((reverse < 0) | (reverse > np.arange(near.nnz)))))
        warnings.warn(
            f"MaxNeighbors({self.max_neighbors}): {n_above} of {near.shape[0]} cells had more than "
            f"{self.max_neighbors} neighbours; {n_removed} edges were removed.",
            StgraphWarning,
            stacklevel=2,
        )
        return _edge_sets.kept(near, keep)


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
    >>> from stgraph.graph.postprocess import LargestComponent
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
        n_lost = len(np.union1d(_edge_sets.rows(near)[~keep], near.indices[~keep]))
        if n_lost:
            warnings.warn(
                f"LargestComponent: {n_lost} of {near.shape[0]} cells are outside the largest component "
                f"({size.max()} cells) and lost their edges.",
                StgraphWarning,
                stacklevel=2,
            )
        return _edge_sets.kept(near, keep)


@dataclass(frozen=True)
class BridgeIsolated:
    """Joins cells without any neighbour to their nearest cells, both ways.

    The nearest cells may be isolated themselves; cells that tie with the last one are
    joined too. A cell of a directed graph that is somebody's neighbour is not isolated.
    There is no limit on the length of these edges: put `MaxLength` behind for one.

    Parameters
    ----------
    n_neighbors
        Cells that an isolated cell is joined to.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import Radius
    >>> from stgraph.graph.postprocess import BridgeIsolated
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    >>> BridgeIsolated()(Radius(2.0)(pos), pos).toarray()
    array([[0., 1., 0.],
           [1., 0., 8.],
           [0., 8., 0.]])
    """

    n_neighbors: int = 1

    in_microns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n_neighbors < 1:
            raise InputError(f"BridgeIsolated needs n_neighbors of at least 1, not {self.n_neighbors}.")

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        near = _edge_sets.in_order(near)
        row = _edge_sets.rows(near)
        others = row != near.indices
        isolated = np.ones(len(pos), dtype=bool)
        isolated[row[others]] = False
        isolated[near.indices[others]] = False
        cells = np.flatnonzero(isolated)
        k = min(self.n_neighbors, len(pos) - 1)
        if len(cells) == 0 or k < 1:
            return near.copy()
        tree = cKDTree(pos)
        # The cell itself is the first, or as near as the first.
        reach = tree.query(pos[cells], k=[k + 1], workers=-1)[0][:, 0] * (1 + TIE)
        found = tree.query_ball_point(pos[cells], reach, workers=-1)
        col = np.concatenate([np.asarray(f, dtype=np.int64) for f in found])
        bridges = edges_to_csr(pos, np.repeat(cells, [len(f) for f in found]), col, symmetric=True)
        return _edge_sets.union(near, bridges)


@dataclass(frozen=True)
class SelfLoops:
    """Makes every cell its own neighbour, at an explicit distance of zero.

    Put it last: what other steps call a neighbour is another cell.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.postprocess import SelfLoops
    >>> pos = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> SelfLoops()(KNN(1)(pos), pos).indices
    array([0, 1, 0, 1], dtype=int32)
    """

    in_microns: ClassVar[bool] = False

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """See `PostProcessor`."""
        n = near.shape[0]
        loops = sp.csr_matrix((np.zeros(n), np.arange(n), np.arange(n + 1)), shape=(n, n))
        return _edge_sets.union(near, loops)


@dataclass(frozen=True)
class PostProcessed:
    """A builder and the steps its edges go through, one after the other; a builder itself.

    Parameters
    ----------
    builder
        Who is whose neighbour at first.
    steps
        What is done to the edges then, in this order.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.postprocess import LengthPercentile, Mutual, PostProcessed
    >>> mutual = PostProcessed(KNN(4, symmetric=False), [LengthPercentile(95.0), Mutual()])
    >>> near = mutual(np.random.default_rng(0).normal(size=(100, 2)))
    >>> (near != near.T).nnz, mutual.in_microns
    (0, False)
    """

    builder: GraphBuilder
    steps: Sequence[PostProcessor] = ()

    def __post_init__(self) -> None:
        given: Any = self.steps
        if not isinstance(given, list | tuple):
            raise InputError(f"PostProcessed needs a list of steps, not {given!r}.")
        for piece in (self.builder, *given):
            if not callable(piece) or not hasattr(piece, "in_microns"):
                raise InputError(
                    "PostProcessed is made of a builder and steps like MaxLength, which are callable and have "
                    f"in_microns; {piece!r} is none."
                )
        # A config gives a list, which could be changed later.
        object.__setattr__(self, "steps", tuple(given))

    @property
    def in_microns(self) -> bool:
        """Whether the builder or any step counts in microns."""
        return self.builder.in_microns or any(step.in_microns for step in self.steps)

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``; see `GraphBuilder`."""
        near = self.builder(pos)
        for step in self.steps:
            near = step(near, pos)
        return near
