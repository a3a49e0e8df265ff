"""Gaussians along the logarithm of the distance, with an affine map for each edge type."""

import math

import torch
from torch import Tensor, nn


class GaussianBias(nn.Module):
    """SToFM's Gaussian distance bias, aware of edge types.

    The distance goes through an affine map of its edge type, is laid on ``num_kernels``
    Gaussians of learned place and width, and a two-layer network turns these into one
    number for each head.

    Parameters
    ----------
    heads
        H.
    num_kernels
        Gaussians.
    num_edge_types
        Kinds of edges, each with its own affine map.
    max_distance
        Gaussians are spread from 0 to here at the start, evenly on the scale of
        ``log1p``, in multiples of the spacing of a slice.

    Shapes
    ------
    distance, edge_type : (E,)
    output : (E, H)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import GaussianBias
    >>> GaussianBias(heads=4)(torch.tensor([1.0, 2.0]), torch.tensor([0, 1])).shape
    torch.Size([2, 4])
    """

    def __init__(self, heads: int, num_kernels: int = 16, num_edge_types: int = 5, max_distance: float = 100.0) -> None:
        super().__init__()
        self.heads = heads
        self.num_kernels = num_kernels
        self.num_edge_types = num_edge_types
        self.max_distance = max_distance
        self.scale = nn.Parameter(torch.ones(num_edge_types))
        self.shift = nn.Parameter(torch.zeros(num_edge_types))
        # Distances to virtual cells are tens of spacings, to neighbours a few: the logarithm serves both.
        top = math.log1p(max_distance)
        self.mean = nn.Parameter(torch.linspace(0, top, num_kernels))
        self.width = nn.Parameter(torch.full((num_kernels,), top / num_kernels))
        self.proj = nn.Sequential(nn.Linear(num_kernels, num_kernels), nn.GELU(), nn.Linear(num_kernels, heads))

    def forward(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """Bias of each edge and head."""
        scale, shift = self.scale.index_select(0, edge_type), self.shift.index_select(0, edge_type)
        d = scale * torch.log1p(distance) + shift
        width = self.width.abs() + 1e-5
        kernel = torch.exp(-0.5 * ((d[:, None] - self.mean) / width) ** 2)
        out: Tensor = self.proj(kernel)
        return out
