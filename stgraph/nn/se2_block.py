"""One block of the SE(2) graph transformer."""

import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.nn.edge_attention import EdgeGraph, edge_attention


class SE2Block(nn.Module):
    """Edge attention with a pair state, then a feed-forward network, both pre-norm.

    Coordinates enter through the pair state only, which starts as a function of
    distances: what comes out does not change when the slice is moved, turned or mirrored.
    The logits of a block are the bias of the next one, as in SToFM.

    Parameters
    ----------
    channels
        C, a multiple of ``heads``.
    heads
        H.
    ffn_channels
        Width of the feed-forward network.
    dropout
        On attention weights and on both branches.

    Shapes
    ------
    x : (N, C)
    pair : (E, H)
    output : (N, C) and (E, H)
    """

    def __init__(self, channels: int, heads: int, ffn_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads}).")
        self.heads = heads
        self.dropout = dropout
        self.norm_attention = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.norm_ffn = nn.LayerNorm(channels)
        self.ffn = nn.Sequential(nn.Linear(channels, ffn_channels), nn.GELU(), nn.Linear(ffn_channels, channels))

    def forward(self, x: Tensor, graph: EdgeGraph, pair: Tensor) -> tuple[Tensor, Tensor]:
        """New node states and new pair state."""
        n, channels = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(n, 3, self.heads, channels // self.heads).unbind(1)
        dropout = self.dropout if self.training else 0.0
        attended, pair = edge_attention(q, k, v, pair, graph, dropout=dropout)
        x = x + F.dropout(self.out(attended.flatten(1)), self.dropout, self.training)
        x = x + F.dropout(self.ffn(self.norm_ffn(x)), self.dropout, self.training)
        return x, pair
