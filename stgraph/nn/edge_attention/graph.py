"""The one graph attention runs on: nodes of every type, edges sorted by target."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class EdgeGraph:
    """Edges in CSR order: row i holds the nodes that node i attends to.

    Attributes
    ----------
    ptr
        (N + 1,) int64, where each row begins.
    row, col
        (E,) int64, target and source of each edge.
    distance
        (E,) length of each edge, in multiples of the spacing of the slice.
    edge_type
        (E,) int64, kind of each edge.
    blocks
        Numbers of nodes of the parts, if nodes come part after part and each attends to all of its own part in
        order: n * n edges for n nodes. None for any other graph.
    """

    ptr: Tensor
    row: Tensor
    col: Tensor
    distance: Tensor
    edge_type: Tensor
    blocks: tuple[int, ...] | None = None
    _transposed: tuple[Tensor, Tensor] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.ptr) - 1

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.col)

    @property
    def transposed(self) -> tuple[Tensor, Tensor]:
        """The same edges by source: (N + 1,) where each source begins, and (E,) their places in this graph."""
        # Not functools.cached_property, whose lock torch.compile does not understand.
        if self._transposed is None:
            with torch.inference_mode(False):  # They are kept, and later saved for a backward pass.
                by_col = torch.argsort(self.col, stable=True)
                found = _pointers(self.col[by_col], self.num_nodes), by_col
            object.__setattr__(self, "_transposed", found)
            return found
        return self._transposed

    @classmethod
    def from_edges(
        cls, num_nodes: int, row: Tensor, col: Tensor, distance: Tensor, edge_type: Tensor
    ) -> tuple["EdgeGraph", Tensor]:
        """Sort an edge list by target.

        Parameters
        ----------
        num_nodes
            N.
        row, col, distance, edge_type
            (E,) each, in any order; all but the distances integers.

        Returns
        -------
        graph : EdgeGraph
            The same edges, sorted; edges of a row keep their order.
        order : Tensor
            (E,) int64, position in the list of each edge of the graph.

        Raises
        ------
        ValueError
            If an edge joins a node that is not there, or lengths or types do not fit.

        Examples
        --------
        >>> import torch
        >>> from stgraph.nn.edge_attention import EdgeGraph
        >>> row, col = torch.tensor([1, 0]), torch.tensor([0, 1])
        >>> graph, order = EdgeGraph.from_edges(2, row, col, torch.ones(2), torch.zeros(2, dtype=torch.long))
        >>> graph.ptr.tolist(), order.tolist()
        ([0, 1, 2], [1, 0])
        """
        if not row.shape == col.shape == distance.shape == edge_type.shape or row.dim() != 1:
            shapes = [tuple(t.shape) for t in (row, col, distance, edge_type)]
            raise ValueError(
                f"row, col, distance and edge_type must be of the same length (E,), not of shapes {shapes}."
            )
        numbers = [row, col, edge_type]
        if any(t.is_floating_point() or t.is_complex() or t.dtype == torch.bool for t in numbers):
            raise ValueError(
                f"row, col and edge_type must be integers, not {', '.join(str(t.dtype) for t in numbers)}."
            )
        row, col, edge_type = (t.long() for t in numbers)
        for ends in (row, col):  # Backends read without looking.
            if len(ends) and not 0 <= int(ends.min()) <= int(ends.max()) < num_nodes:
                raise ValueError(
                    f"Edges of {num_nodes} nodes join numbers from 0 to {num_nodes - 1}, but there are "
                    f"{int(ends.min())} to {int(ends.max())}."
                )
        order = torch.argsort(row, stable=True)
        row = row[order]
        return cls(_pointers(row, num_nodes), row, col[order], distance[order], edge_type[order]), order

    @classmethod
    def complete(cls, sizes: Sequence[int], distance: Tensor, edge_type: Tensor) -> "EdgeGraph":
        """Every node attends to all nodes of its part, itself among them.

        Parameters
        ----------
        sizes
            Numbers of nodes of the parts, which come one after the other.
        distance, edge_type
            (E,) of all pairs of the first part, row by row, then of the second, and so on.

        Returns
        -------
        EdgeGraph
            With ``blocks``, by which the dense backend knows it.

        Raises
        ------
        ValueError
            If there are not as many distances and types as pairs.

        Examples
        --------
        >>> import torch
        >>> from stgraph.nn.edge_attention import EdgeGraph
        >>> graph = EdgeGraph.complete([2, 1], torch.zeros(5), torch.zeros(5, dtype=torch.long))
        >>> graph.row.tolist(), graph.col.tolist()
        ([0, 0, 1, 1, 2], [0, 1, 0, 1, 2])
        """
        if not len(distance) == len(edge_type) == sum(n * n for n in sizes):
            raise ValueError(
                f"Parts of {list(sizes)} nodes have {sum(n * n for n in sizes)} pairs, but there are {len(distance)} "
                f"distances and {len(edge_type)} edge types."
            )
        size = torch.tensor(list(sizes), dtype=torch.long, device=distance.device)
        degree = size.repeat_interleave(size)
        ptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        row = torch.arange(len(degree), device=distance.device).repeat_interleave(degree)
        first = (size.cumsum(0) - size).repeat_interleave(size)
        col = torch.arange(len(row), device=distance.device) - ptr[:-1][row] + first[row]
        return cls(ptr, row, col, distance, edge_type, tuple(int(n) for n in sizes))


def _pointers(ascending: Tensor, count: int) -> Tensor:
    """(count + 1,) where each number begins; sizes do not depend on data, for `torch.compile`."""
    return torch.searchsorted(ascending, torch.arange(count + 1, device=ascending.device))
