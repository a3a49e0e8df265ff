"""A pre-norm layer of attention on packed sequences and a gated feed-forward network, as AIDO.Tissue has it."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.errors import InputError
from stgraph.nn.half_attention import grouped_half_attention, is_halved
from stgraph.nn.packed_attention import grouped_attention
from stgraph.nn.rotary import check_head_channels, rotate, side_by_side
from stgraph.nn.sparse_dropout import sparse_dropout

Norm = Literal["rms", "layer"]
"""Normalisation: by the root mean square, or by mean and variance."""

Sizes = tuple[tuple[int, int, int], ...]


def make_norm(norm: Norm, channels: int, eps: float = 1e-5) -> nn.Module:
    """The normalisation of that name.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> from stgraph.nn.swiglu import make_norm
    >>> make_norm("rms", 8)
    RMSNorm((8,), eps=1e-05, elementwise_affine=True)
    """
    if norm not in get_args(Norm):
        raise InputError(f"norm must be one of {', '.join(get_args(Norm))}, not {norm!r}.")
    return RMSNorm(channels, eps=eps) if norm == "rms" else nn.LayerNorm(channels, eps=eps)


class RMSNorm(nn.RMSNorm):
    """torch's, in the precision of its weight: under autocast, states in half precision would go a slower way.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.swiglu import RMSNorm
    >>> RMSNorm(2)(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16)).dtype
    torch.float32
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalised, (..., C)."""
        return super().forward(x if self.weight is None else x.to(self.weight.dtype))


class PreNormLayer(nn.Module):
    """Attention, then SwiGLU; each is added to what it read normalised.

    Parameters
    ----------
    channels
        C, a multiple of 4 times ``heads``.
    heads
        H.
    ffn_channels
        Width of the feed-forward network.
    norm
        "rms" or "layer".
    dropout
        Of both branches.
    norm_eps
        Added to variances.

    Shapes
    ------
    x : (T, C), in the order of their groups
    rotation : (T, D / 2) complex64
    output : (T, C), or (Q, C) where queries are given

    References
    ----------
    Shazeer, GLU variants improve transformer (2020).

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.rotary import rotation
    >>> from stgraph.nn.swiglu import PreNormLayer
    >>> by = rotation(torch.arange(6), torch.zeros(6), 4)
    >>> PreNormLayer(8, heads=2, ffn_channels=16)(torch.randn(6, 8), ((2, 3, 3),), by).shape
    torch.Size([6, 8])
    """

    _pairs: Tensor

    def __init__(
        self,
        channels: int,
        heads: int,
        ffn_channels: int,
        norm: Norm = "rms",
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise InputError(f"channels ({channels}) must be a multiple of heads ({heads}).")
        check_head_channels(channels // heads)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be from 0 to below 1, not {dropout}.")
        self.heads = heads
        self.head_channels = channels // heads
        self.dropout = dropout
        projections = {name: nn.Linear(channels, channels) for name in ("query", "key", "value")}
        # Names of the published layout
        self.attention = nn.ModuleDict(
            {
                "ln": make_norm(norm, channels, norm_eps),
                "self": nn.ModuleDict(projections),
                "output": nn.ModuleDict({"dense": nn.Linear(channels, channels)}),
            }
        )
        self.ln = make_norm(norm, channels, norm_eps)
        self.mlp = nn.ModuleDict(
            {
                "up_proj": nn.Linear(channels, ffn_channels),
                "gate_proj": nn.Linear(channels, ffn_channels),
                "down_proj": nn.Linear(ffn_channels, channels),
            }
        )
        self.register_buffer("_pairs", side_by_side(heads, channels // heads), persistent=False)

    def forward(
        self,
        x: Tensor,
        sizes: Sizes,
        rotation: Tensor,
        queries: Tensor | None = None,
        query_rotation: Tensor | None = None,
    ) -> Tensor:
        """New states of all tokens, or of those given as ``queries``, which attend to all.

        Parameters
        ----------
        x
            (T, C) in the order of the groups.
        sizes
            Of `stgraph.nn.packed_attention.SequenceGroups`.
        rotation
            (T, D / 2) of `stgraph.nn.rotary.rotation`, of these tokens.
        queries, query_rotation
            (Q, C) and (Q, D / 2) if not all tokens; ``sizes`` says how many each sequence has.
        """
        attention: Any = self.attention
        n = attention["ln"](x)
        if queries is None:
            own = x
            q, k, v = self._project(n, "query", "key", "value").unbind(1)
            q = rotate(q, rotation)
        else:
            own = queries
            k, v = self._project(n, "key", "value").unbind(1)
            q = self._project(attention["ln"](queries), "query")[:, 0]
            q = rotate(q, rotation if query_rotation is None else query_rotation)
        attend = grouped_half_attention if is_halved(q, sizes) else grouped_attention
        attended = attend(q, rotate(k, rotation), v, sizes).flatten(1)
        own = own + sparse_dropout(attention["output"]["dense"](attended), self.dropout, self.training)
        return own + sparse_dropout(self._feed_forward(self.ln(own)), self.dropout, self.training)

    def _project(self, n: Tensor, *names: str) -> Tensor:
        """(T, len(names), H, D) by one product; pairs of queries and keys stand side by side."""
        projections: Any = self.attention["self"]
        weights, biases = [], []
        for name in names:
            weight, bias = projections[name].weight, projections[name].bias
            weights.append(weight if name == "value" else weight.index_select(0, self._pairs))
            biases.append(bias if name == "value" else bias.index_select(0, self._pairs))
        return F.linear(n, torch.cat(weights), torch.cat(biases)).view(
            len(n), len(names), self.heads, self.head_channels
        )

    def _feed_forward(self, n: Tensor) -> Tensor:
        mlp: Any = self.mlp
        out: Tensor = mlp["down_proj"](F.silu(mlp["gate_proj"](n)) * mlp["up_proj"](n))
        return out
