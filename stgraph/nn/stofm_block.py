"""The block of the published SToFM, weight for weight."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.nn.edge_attention import EdgeGraph, edge_attention
from stgraph.nn.edge_attention.backends import Backend, check_backend
from stgraph.nn.se2_block import NormPlace, ResidualBlock


class SToFMBlock(ResidualBlock):
    """A block whose weights have the names, the shapes and the first values of the published ones.

    Parameters
    ----------
    channels
        C, a multiple of ``heads``.
    heads
        H.
    ffn_channels
        Width of the feed-forward network.
    dropout
        Of both branches.
    attention_dropout
        Of the attention weights.
    activation_dropout
        Inside the feed-forward network, after its GELU.
    norm
        As for `ResidualBlock`; the published one is post-norm.
    backend
        Of `stgraph.nn.edge_attention.edge_attention`.

    Shapes
    ------
    x : (N, C)
    pair : (E, H)
    output : (N, C) and (E, H)

    References
    ----------
    SToFM: a multi-scale foundation model for spatial transcriptomics (2025).

    Examples
    --------
    >>> from stgraph.nn.stofm_block import SToFMBlock
    >>> [name for name, _ in SToFMBlock(8, heads=2, ffn_channels=16).named_children()]
    ['self_attn', 'self_attn_layer_norm', 'fc1', 'fc2', 'final_layer_norm']
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        ffn_channels: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.1,
        norm: NormPlace = "post",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(channels, heads, dropout, norm)
        if not all(0 <= rate < 1 for rate in (attention_dropout, activation_dropout)):
            raise ValueError("SToFMBlock needs every dropout from 0 to below 1.")
        check_backend(backend)
        self.ffn_channels = ffn_channels
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.backend: Backend = backend
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        self.self_attn = nn.ModuleDict({name: nn.Linear(channels, channels) for name in names})
        self.self_attn_layer_norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, ffn_channels)
        self.fc2 = nn.Linear(ffn_channels, channels)
        self.final_layer_norm = nn.LayerNorm(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as they were drawn for the published model."""
        for name, linear in self.self_attn.items():
            if isinstance(linear, nn.Linear):
                nn.init.xavier_uniform_(linear.weight, gain=1.0 if name == "out_proj" else math.sqrt(0.5))
                nn.init.zeros_(linear.bias)
        for linear in (self.fc1, self.fc2):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.self_attn_layer_norm.reset_parameters()
        self.final_layer_norm.reset_parameters()

    @property
    def norms(self) -> tuple[nn.Module, nn.Module]:
        """Normalisation of the attention and of the feed-forward network."""
        return self.self_attn_layer_norm, self.final_layer_norm

    def attend(self, x: Tensor, graph: EdgeGraph, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Branch of the attention (N, C), and logits (E, H)."""
        q, k, v = (self.self_attn[name](x).unflatten(1, (self.heads, -1)) for name in ("q_proj", "k_proj", "v_proj"))
        dropout = self.attention_dropout if self.training else 0.0
        attended, pair = edge_attention(q, k, v, pair, graph, dropout=dropout, return_logits=True, backend=self.backend)
        del q, k, v  # as large as all nodes, each
        return self.self_attn["out_proj"](attended.flatten(1)), pair

    def feed_forward(self, x: Tensor) -> Tensor:
        """Branch of the feed-forward network (N, C)."""
        hidden = F.dropout(F.gelu(self.fc1(x)), self.activation_dropout, self.training)
        out: Tensor = self.fc2(hidden)
        return out
