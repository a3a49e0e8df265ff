"""One vector for one number, by bins that blend into each other and are learnt."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.graph.arguments import check_whole


class SoftBins(nn.Module):
    """A weighted mean of the rows of a table; a small network says from the value how much of each (xTrimoGene).

    Parameters
    ----------
    channels
        C.
    num_bins
        Rows of the table.
    alpha
        Weight of the first layer beside the second.

    Attributes
    ----------
    mask_vector, pad_vector
        (C,) what stands for a hidden value, and for padding. Ours pads nothing, so the latter is not trained: it is
        there for the published layout.

    Shapes
    ------
    values : (T,)
    output : (T, C)

    References
    ----------
    Gong et al., xTrimoGene: an efficient and scalable representation learner for single-cell RNA-seq data (2023).

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.soft_bins import SoftBins
    >>> SoftBins(8, num_bins=5)(torch.tensor([0.0, 1.0, 3.5])).shape
    torch.Size([3, 8])
    """

    def __init__(self, channels: int, num_bins: int = 100, alpha: float = 1.0) -> None:
        super().__init__()
        self.channels = channels
        self.num_bins = num_bins
        self.alpha = alpha
        check_whole(self, "channels")
        check_whole(self, "num_bins")
        # Names of the published layout
        self.linear1 = nn.Linear(1, num_bins)
        self.linear2 = nn.Linear(num_bins, num_bins)
        self.lookup_table = nn.Embedding(num_bins, channels)
        self.mask_embedding = nn.Embedding(1, channels)
        self.pad_embedding = nn.Embedding(1, channels).requires_grad_(False)

    @property
    def mask_vector(self) -> Tensor:
        """(C,) stands for a value that is hidden."""
        return self.mask_embedding.weight[0]

    @property
    def pad_vector(self) -> Tensor:
        """(C,) stands for a place that is none."""
        return self.pad_embedding.weight[0]

    def forward(self, values: Tensor) -> Tensor:
        """One vector for each value."""
        hidden = F.leaky_relu(self.linear1(values[:, None].to(self.linear1.weight.dtype)), 0.1)
        share = torch.softmax(torch.add(self.linear2(hidden), hidden, alpha=self.alpha), dim=-1)
        return share @ self.lookup_table.weight
