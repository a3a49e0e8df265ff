"""A cell in a few vectors: what of its genes others get to see."""

import torch
from torch import Tensor, nn

from stgraph.nn.reading_layer import ReadingLayer, ReadingSizes
from stgraph.nn.swiglu import Norm, make_norm


class CellSummaries(nn.Module):
    """Learnt queries that read the genes of a cell, and begin at the sum of its genes weighted by their values.

    Attention takes means: of one gene among a hundred a hundredth arrives, and before a query knows what to look for,
    next to nothing that tells cells apart. The sum is a linear map of expression, as principal components are, and
    tells them apart from the first step on. On a toy where a hidden gene follows one gene of the six nearest cells, 300
    steps explained 88 % of its variance in another slice with the sum, and none without.

    Parameters
    ----------
    channels, heads, ffn_channels, norm, dropout
        As for `stgraph.nn.reading_layer.ReadingLayer`.
    num_summaries
        M, vectors of a cell.

    Shapes
    ------
    states : (T, C) of the genes of V cells, in the order of their groups
    weighted : (V, C) sums, in the same order
    output : (V, M, C)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.cell_summaries import CellSummaries
    >>> summaries = CellSummaries(8, heads=2, ffn_channels=16, num_summaries=3)
    >>> summaries(torch.randn(4, 8), torch.randn(2, 8), ((2, 2),)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        ffn_channels: int,
        num_summaries: int,
        norm: Norm = "rms",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_summaries = num_summaries
        self.queries = nn.Parameter(torch.randn(num_summaries, channels) * 0.1)
        self.sum_norm = make_norm(norm, channels)
        self.sum_proj = nn.Linear(channels, num_summaries * channels)
        self.layer = ReadingLayer(channels, heads, ffn_channels, norm, dropout)

    def forward(self, states: Tensor, weighted: Tensor, groups: tuple[tuple[int, int], ...]) -> Tensor:
        """Summaries of all cells.

        Parameters
        ----------
        states, weighted
            As above.
        groups
            How many cells of each group there are, and how many genes each of them has.
        """
        m = self.num_summaries
        start = self.sum_proj(self.sum_norm(weighted)).view(len(weighted), m, -1) + self.queries
        sizes: ReadingSizes = tuple((n, m, genes, 0) for n, genes in groups)
        found: Tensor = self.layer(start.flatten(0, 1), sizes, source=states)
        return found.view(len(weighted), m, -1)
