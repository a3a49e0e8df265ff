"""One block of the SE(2) graph transformer."""

from abc import ABC, abstractmethod
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.nn.edge_attention import EdgeGraph, edge_attention
from stgraph.nn.edge_attention.backends import Backend, check_backend

NormPlace = Literal["pre", "post"]
"""Whether layers are normalised before each branch, or after each sum."""


class ResidualBlock(nn.Module, ABC):
    """Attention with a pair state, then a feed-forward network, each beside a residual connection.

    What a block is, whatever its weights are called; `SE2Block` and `stgraph.nn.stofm_block.SToFMBlock` are two.

    Parameters
    ----------
    channels
        C, a multiple of ``heads``.
    heads
        H.
    dropout
        Of both branches.
    norm
        ``"pre"``: the input of a branch is normalised. ``"post"``: the sum with its output is.

    Shapes
    ------
    x : (N, C)
    pair : (E, H)
    output : (N, C) and (E, H)
    """

    def __init__(self, channels: int, heads: int, dropout: float, norm: NormPlace) -> None:
        super().__init__()
        if heads < 1 or channels < 1 or channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads}).")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, not {dropout}.")
        if norm not in ("pre", "post"):
            raise ValueError(f"norm must be 'pre' or 'post', not {norm!r}.")
        self.channels = channels
        self.heads = heads
        self.dropout = dropout
        self.norm = norm

    @property
    @abstractmethod
    def norms(self) -> tuple[nn.Module, nn.Module]:
        """Normalisation of the attention and of the feed-forward network."""

    @abstractmethod
    def attend(self, x: Tensor, graph: EdgeGraph, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Branch of the attention (N, C), and logits (E, H)."""

    @abstractmethod
    def feed_forward(self, x: Tensor) -> Tensor:
        """Branch of the feed-forward network (N, C)."""

    def forward(self, x: Tensor, graph: EdgeGraph, pair: Tensor) -> tuple[Tensor, Tensor]:
        """New node states and new pair state."""
        first, second = self.norms
        pre = self.norm == "pre"
        branch, pair = self.attend(first(x) if pre else x, graph, pair)
        x = x + F.dropout(branch, self.dropout, self.training)
        del branch  # as large as all nodes
        x = x if pre else first(x)
        x = x + F.dropout(self.feed_forward(second(x) if pre else x), self.dropout, self.training)
        return x if pre else second(x), pair


class SE2Block(ResidualBlock):
    """Edge attention with a pair state, then a feed-forward network.

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
    norm
        As for `ResidualBlock`.
    backend
        Of `stgraph.nn.edge_attention.edge_attention`.

    Shapes
    ------
    x : (N, C)
    pair : (E, H)
    output : (N, C) and (E, H)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.edge_attention import EdgeGraph
    >>> from stgraph.nn.se2_block import SE2Block
    >>> graph = EdgeGraph.complete([3], torch.zeros(9), torch.zeros(9, dtype=torch.long))
    >>> block = SE2Block(channels=8, heads=2, ffn_channels=16, backend="reference")
    >>> x, pair = block(torch.ones(3, 8), graph, torch.zeros(9, 2))
    >>> x.shape, pair.shape
    (torch.Size([3, 8]), torch.Size([9, 2]))
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        ffn_channels: int,
        dropout: float = 0.0,
        norm: NormPlace = "pre",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(channels, heads, dropout, norm)
        check_backend(backend)
        self.ffn_channels = ffn_channels
        self.backend: Backend = backend
        self.norm_attention = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.norm_ffn = nn.LayerNorm(channels)
        self.ffn = nn.Sequential(nn.Linear(channels, ffn_channels), nn.GELU(), nn.Linear(ffn_channels, channels))

    @property
    def norms(self) -> tuple[nn.Module, nn.Module]:
        """Normalisation of the attention and of the feed-forward network."""
        return self.norm_attention, self.norm_ffn

    def attend(self, x: Tensor, graph: EdgeGraph, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Branch of the attention (N, C), and logits (E, H)."""
        q, k, v = self.qkv(x).unflatten(1, (3, self.heads, -1)).unbind(1)
        dropout = self.dropout if self.training else 0.0
        attended, pair = edge_attention(q, k, v, pair, graph, dropout=dropout, return_logits=True, backend=self.backend)
        return self.out(attended.flatten(1)), pair

    def feed_forward(self, x: Tensor) -> Tensor:
        """Branch of the feed-forward network (N, C)."""
        out: Tensor = self.ffn(x)
        return out
