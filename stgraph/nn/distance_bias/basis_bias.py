"""A distance bias made of any radial basis."""

from torch import Tensor, nn
from torch.nn import functional as F


class BasisBias(nn.Module):
    """A two-layer network on a radial basis, whose first layer has a bias of its own for each edge type.

    Distances are not scaled by type, unlike in `stgraph.nn.distance_bias.GaussianBias`, so that a cut-off stays.

    Parameters
    ----------
    basis
        A `stgraph.nn.distance_bias.RadialBasis`.
    heads
        H.
    num_edge_types
        Kinds of edges told apart.

    Shapes
    ------
    distance, edge_type : (E,)
    output : (E, H)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import BasisBias, BesselBasis
    >>> BasisBias(BesselBasis(), heads=4)(torch.tensor([1.0, 2.0]), torch.tensor([0, 1])).shape
    torch.Size([2, 4])
    """

    def __init__(self, basis: nn.Module, heads: int, num_edge_types: int = 5) -> None:
        super().__init__()
        self.basis = basis
        self.heads = heads
        self.num_edge_types = num_edge_types
        width = int(basis.num_kernels)  # type: ignore[arg-type]
        self.first = nn.Linear(width, width, bias=False)
        self.edge_type = nn.Embedding(num_edge_types, width)
        self.last = nn.Linear(width, heads)
        nn.init.normal_(self.edge_type.weight, std=0.1)

    def forward(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """Bias of each edge and head."""
        out: Tensor = self.last(F.gelu(self.first(self.basis(distance)) + self.edge_type(edge_type)))
        return out
