"""SToFM's Gaussian module, to the letter."""

import math

import torch
from torch import Tensor, nn


class SToFMGaussianBias(nn.Module):
    """The distance bias of SToFM as published, under its parameter names.

    ``num_kernels`` normal densities of the distance, of learned mean and width, and a two-layer network on them. The
    bias is zero where the distance is exactly zero: SToFM's mark of the diagonal and of the class token. It tells no
    edge types apart; `stgraph.nn.distance_bias.GaussianBias` does, by an affine map for each.

    At the start the Gaussians lie between 0 and 3, and some are far narrower than their distance from each other.

    Parameters
    ----------
    heads
        H.
    num_kernels
        K, Gaussians; SToFM has 128.

    Shapes
    ------
    distance : (E,); SToFM counts in hundredths of the diagonal of the slice
    edge_type : (E,), not looked at
    output : (E, H)

    References
    ----------
    SToFM: a multi-scale foundation model for spatial transcriptomics (2025), after Uni-Mol and Graphormer-3D.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import SToFMGaussianBias
    >>> bias = SToFMGaussianBias(heads=8)(torch.tensor([0.0, 2.0]), torch.tensor([0, 0]))
    >>> bias.shape, bool((bias[0] == 0).all())
    (torch.Size([2, 8]), True)
    """

    num_edge_types: int | None = None

    def __init__(self, heads: int, num_kernels: int = 128) -> None:
        super().__init__()
        self.heads = heads
        self.num_kernels = num_kernels
        self.linear = nn.Linear(1, 1)
        self.means = nn.Embedding(1, num_kernels)
        self.stds = nn.Embedding(1, num_kernels)
        self.proj = nn.Sequential(nn.Linear(num_kernels, num_kernels), nn.ReLU(), nn.Linear(num_kernels, heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights as SToFM does."""
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        nn.init.uniform_(self.means.weight, 0, 3)
        nn.init.uniform_(self.stds.weight, 0, 3)
        for layer in self.proj:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def narrow_places(self) -> tuple[Tensor, Tensor]:
        """(K,) distances at which the Gaussians lie, and how wide they are there, for knots to be put close enough."""
        slope, shift = self.linear.weight.detach()[0, 0], self.linear.bias.detach()[0]
        away = (self.means.weight[0].detach() - shift) / slope
        width = (self.stds.weight[0].detach().abs() + 1e-5) / slope.abs()
        placed = torch.isfinite(away) & torch.isfinite(width)  # none is, where all distances are mapped to one
        return away[placed], width[placed]

    def forward(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """Bias of each edge and head."""
        width = self.stds.weight.abs() + 1e-5
        # Not by calling the layer, which would round distances to 8 bits under autocast.
        moved = distance[:, None] * self.linear.weight[0] + self.linear.bias
        away = (moved - self.means.weight) / width
        density = torch.exp(-0.5 * away**2) / (math.sqrt(2 * math.pi) * width)
        return torch.where((distance == 0)[:, None], 0, self.proj(density))
