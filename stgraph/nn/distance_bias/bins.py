"""A distance bias that is learned freely, bin by bin."""

import math

import torch
from torch import Tensor, nn


class BinBias(nn.Module):
    """A number for each distance bin, edge type and head; no function of the distance is presumed.

    Bins are equally wide along ``log1p`` of the distance. With ``smooth`` the numbers stand at the edges of bins, and
    distances in between are interpolated; without, they stand for the whole bin, as in a table of relative positions.
    What is farther than ``max_distance`` is counted as being there: the last number is that of everything far.

    Parameters
    ----------
    heads
        H.
    num_bins
        Bins from 0 to ``max_distance``.
    num_edge_types
        Kinds of edges told apart.
    max_distance
        Where the last bin ends, in the unit of the distances.
    smooth
        Whether to interpolate.

    Shapes
    ------
    distance, edge_type : (E,)
    output : (E, H)

    References
    ----------
    Raffel et al., Exploring the limits of transfer learning (T5), JMLR 21 (2020), section 2.1: logarithmic bins.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import BinBias
    >>> BinBias(heads=4)(torch.tensor([1.0, 2.0]), torch.tensor([0, 1])).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        heads: int,
        num_bins: int = 32,
        num_edge_types: int = 5,
        max_distance: float = 100.0,
        smooth: bool = True,
    ) -> None:
        super().__init__()
        if num_bins < 1 or not max_distance > 0:
            raise ValueError(f"BinBias needs bins and a max_distance above 0, not {num_bins} and {max_distance}.")
        self.heads = heads
        self.num_bins = num_bins
        self.num_edge_types = num_edge_types
        self.max_distance = max_distance
        self.smooth = smooth
        self.value = nn.Parameter(0.02 * torch.randn(num_edge_types, num_bins + 1, heads))

    def forward(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """Bias of each edge and head."""
        place = (torch.log1p(distance) * (self.num_bins / math.log1p(self.max_distance))).clamp(max=self.num_bins)
        table = self.value.flatten(0, 1)
        row = edge_type * (self.num_bins + 1)
        if not self.smooth:
            return table.index_select(0, row + place.long())
        low = place.detach().long().clamp(max=self.num_bins - 1)
        share = (place - low).to(table.dtype)[:, None]
        return torch.lerp(table.index_select(0, row + low), table.index_select(0, row + low + 1), share)
