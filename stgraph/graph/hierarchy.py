"""Virtual cells of virtual cells: coarser and coarser views of a large slice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.graph.builders import KNN
from stgraph.graph.leiden import leiden
from stgraph.graph.merge_clusters import contract, merge_clusters
from stgraph.graph.slice_graph import VirtualCells
from stgraph.graph.virtual_cells import JointLeiden, VirtualCellBuilder, aggregate

_DEFAULT_BASE = JointLeiden()


@dataclass(frozen=True)
class Hierarchical:
    """Virtual cells with a ``parent``: Leiden again and again on the graph of their contacts.

    Two virtual cells touch as often as a cell of one is among the nearest neighbours of a cell of the
    other. Those that touch more than their sizes explain are joined, level by level, up to the given
    numbers. Every slice gets all levels, for slices of different depth cannot be batched; one that joins
    nothing repeats the level below it.

    Parameters
    ----------
    base
        Makes the finest virtual cells.
    max_coarse
        Most virtual cells of each coarser level, from fine to coarse: as many numbers as levels, decreasing.
    resolution
        Of Leiden's modularity on the graph of contacts.
    n_neighbors
        Nearest cells that a cell touches.
    random_state
        Seed of Leiden on the graphs of contacts.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.hierarchy import Hierarchical
    >>> from stgraph.graph.virtual_cells import JointLeiden
    >>> rng = np.random.default_rng(0)
    >>> virtual = Hierarchical(JointLeiden(alpha=0.0), max_coarse=(4, 2))(np.ones((500, 3)), rng.random((500, 2)))
    >>> len(virtual) > len(virtual.parent) > len(virtual.parent.parent) > 1
    True
    >>> int(virtual.parent.num_cells.sum()), virtual.parent.parent.parent is None
    (500, True)
    """

    base: VirtualCellBuilder = _DEFAULT_BASE
    max_coarse: Sequence[int] = (8,)
    resolution: float = 1.0
    n_neighbors: int = 10
    random_state: int = 0

    def __post_init__(self) -> None:
        given: object = self.max_coarse
        if not isinstance(given, list | tuple) or not all(type(size) is int for size in given):
            raise InputError(f"Hierarchical needs a list of whole numbers as max_coarse, as (64, 8), not {given!r}.")
        sizes = tuple(given)
        object.__setattr__(self, "max_coarse", sizes)  # a config has a list
        if not sizes or min(sizes) < 1 or any(coarse >= fine for fine, coarse in pairwise(sizes)):
            raise InputError(
                f"Hierarchical needs max_coarse to be decreasing positive numbers, one for each level, not {sizes}."
            )
        check_positive(self, "resolution")
        check_whole(self, "n_neighbors")
        if not callable(self.base):
            raise InputError(f"Hierarchical needs a builder of virtual cells as its base, not {self.base!r}.")

    def __call__(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> VirtualCells:
        """Virtual cells of one slice, with their parents; see `VirtualCellBuilder`."""
        levels = [self.base(x, pos)]
        contacts = self._contacts(levels[0], pos)
        for size in self.max_coarse:
            joined = self._join(levels[-1], contacts, size)
            coarse = aggregate(joined, levels[-1].x, levels[-1].pos, num_cells=levels[-1].num_cells)
            levels.append(coarse)
            contacts = contract(contacts, coarse.membership)
        nested = replace(levels[-1], parent=None)
        for level in reversed(levels[:-1]):
            nested = replace(level, parent=nested)
        return nested

    def _contacts(self, virtual: VirtualCells, pos: NDArray[np.float64]) -> sp.csr_matrix:
        k = min(self.n_neighbors, len(pos) - 1)
        if k == 0:
            return sp.csr_matrix((len(virtual), len(virtual)))
        touches = KNN(k, symmetric=False)(pos)
        touches.data[:] = 1.0  # also where two cells coincide
        contacts = contract(touches, virtual.membership)
        return sp.csr_matrix(contacts + contacts.T)

    def _join(self, virtual: VirtualCells, contacts: sp.csr_matrix, size: int) -> NDArray[np.int64]:
        first = leiden(contacts, resolution=self.resolution, random_state=self.random_state)
        communities = aggregate(first, virtual.x, virtual.pos, num_cells=virtual.num_cells)
        merged = merge_clusters(
            communities,
            contract(contacts, communities.membership),
            size,
            resolution=self.resolution,
            alpha=0.0,  # what does not touch at all is joined with what is nearest in space
            random_state=self.random_state,
        )
        return merged[communities.membership]
