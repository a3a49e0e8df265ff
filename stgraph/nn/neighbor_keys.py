"""What a cell shows to the cells around it: keys and values of its summaries, and of where it is."""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from stgraph.nn.swiglu import Norm, make_norm

_NEAREST, _FARTHEST = 0.1, 10_000.0
"""Distances between which places are told apart, in whatever unit: spacings, microns, pixels."""
_MOST_NEIGHBORS = 256
_WIDTH = 1.0
"""Of a Gaussian, in steps of the grid."""


class NeighborPlaces(NamedTuple):
    """Which cells the centres of a batch read, and where these are; absent ones are left out.

    Attributes
    ----------
    row
        (P,) int64, the cell, one centre after another, its nearest first.
    place
        (P, F) float32, Gaussians of the logarithm of distance and of rank.
    """

    row: Tensor
    place: Tensor

    @classmethod
    def of(cls, neighbors: Tensor, distance: Tensor, num_places: int) -> Self:
        """From a table of neighbours.

        Parameters
        ----------
        neighbors
            (S, K) int64, rows of cells; -1 where there is none.
        distance
            (S, K), how far they are.
        num_places
            F, half of them for distances and half for ranks.

        Examples
        --------
        >>> import torch
        >>> from stgraph.nn.neighbor_keys import NeighborPlaces
        >>> found = NeighborPlaces.of(torch.tensor([[1, 2], [0, -1]]), torch.tensor([[8.0, 9.0], [8.0, torch.inf]]), 16)
        >>> found.row.tolist(), found.place.shape
        ([1, 2, 0], torch.Size([3, 16]))
        """
        there = neighbors >= 0
        rank = torch.arange(1, neighbors.shape[1] + 1, device=neighbors.device).expand_as(neighbors)[there]
        far = distance[there].clamp(_NEAREST, _FARTHEST)
        half = num_places // 2
        of_distance = _gaussians(far, _NEAREST, _FARTHEST, num_places - half)
        return cls(neighbors[there], torch.cat([of_distance, _gaussians(rank, 1, _MOST_NEIGHBORS, half)], dim=1))


class NeighborKeys(nn.Module):
    """Keys and values of summaries, made once for each cell, and what the place of a neighbour adds to them.

    Distances are told apart by their logarithm, from a tenth to ten thousand of any unit; places beyond are as those at
    the end. Ranks likewise, so that what is learnt with 8 neighbours can be read with 64.

    Parameters
    ----------
    channels, heads
        C and H.
    num_places
        F of `NeighborPlaces`.
    norm
        "rms" or "layer", of the summaries.

    Shapes
    ------
    summaries : (V, M, C)
    output : (P * M, 2, H, D), keys and values, the M of one neighbour after another

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.neighbor_keys import NeighborKeys, NeighborPlaces
    >>> places = NeighborPlaces.of(torch.tensor([[1], [0]]), torch.tensor([[8.0], [8.0]]), 16)
    >>> NeighborKeys(8, heads=2, num_places=16)(torch.randn(2, 3, 8), places).shape
    torch.Size([6, 2, 2, 4])
    """

    def __init__(self, channels: int, heads: int, num_places: int, norm: Norm = "rms") -> None:
        super().__init__()
        self.heads = heads
        self.norm = make_norm(norm, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.place = nn.Linear(num_places, 2 * channels, bias=False)

    def forward(self, summaries: Tensor, places: NeighborPlaces) -> Tensor:
        """Keys and values that the centres read beside their own."""
        of_cell = self.key_value(self.norm(summaries))
        shown = of_cell.index_select(0, places.row) + self.place(places.place.to(of_cell.dtype))[:, None]
        out: Tensor = shown.flatten(0, 1).unflatten(1, (2, self.heads, -1))
        return out


def _gaussians(x: Tensor, least: float, most: float, count: int) -> Tensor:
    """(n, count) bumps along the logarithm of x."""
    at = torch.linspace(math.log(least), math.log(most), count, device=x.device)
    step = (math.log(most) - math.log(least)) / max(count - 1, 1)
    return torch.exp(-0.5 * ((x.float().log()[:, None] - at) / (_WIDTH * step)).square())
