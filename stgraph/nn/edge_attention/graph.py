"""The one graph attention runs on: nodes of every type, edges sorted by target."""

from dataclasses import dataclass

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
    """

    ptr: Tensor
    row: Tensor
    col: Tensor
    distance: Tensor
    edge_type: Tensor

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.ptr) - 1

    @property
    def num_edges(self) -> int:
        """E."""
        return len(self.col)

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
            (E,) each, in any order.

        Returns
        -------
        graph : EdgeGraph
            The same edges, sorted; edges of a row keep their order.
        order : Tensor
            (E,) int64, position in the list of each edge of the graph.

        Examples
        --------
        >>> import torch
        >>> from stgraph.nn.edge_attention import EdgeGraph
        >>> row, col = torch.tensor([1, 0]), torch.tensor([0, 1])
        >>> graph, order = EdgeGraph.from_edges(2, row, col, torch.ones(2), torch.zeros(2, dtype=torch.long))
        >>> graph.ptr.tolist(), order.tolist()
        ([0, 1, 2], [1, 0])
        """
        order = torch.argsort(row, stable=True)
        ptr = torch.zeros(num_nodes + 1, dtype=torch.long, device=row.device)
        torch.cumsum(torch.bincount(row, minlength=num_nodes), dim=0, out=ptr[1:])
        return cls(ptr, row[order], col[order], distance[order], edge_type[order]), order
