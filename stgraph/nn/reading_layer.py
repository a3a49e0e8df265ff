"""A pre-norm layer whose tokens read their own sequence and, in the same softmax, keys that are given beside it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.errors import InputError
from stgraph.nn.sparse_dropout import sparse_dropout
from stgraph.nn.swiglu import Norm, make_norm

ReadingSizes = tuple[tuple[int, int, int, int], ...]
"""For each group of alike sequences: how many, their readers, their tokens that are read, their keys given beside."""


class ReadingLayer(nn.Module):
    """Attention, then SwiGLU; each is added to what it read normalised. Nothing is rotated: genes have no place.

    Parameters
    ----------
    channels
        C, a multiple of ``heads``.
    heads
        H, of D channels each.
    ffn_channels
        Width of the feed-forward network.
    norm
        "rms" or "layer".
    dropout
        Of both branches.

    Shapes
    ------
    x : (T, C) tokens that read, in the order of their groups
    source : (T2, C) tokens that are read; ``x`` itself if not given
    beside : (E, 2, H, D) further keys and values, in the order of the groups
    output : (T, C)

    References
    ----------
    Shazeer, GLU variants improve transformer (2020).

    Examples
    --------
    Two sequences of three tokens, and two keys beside each:

    >>> import torch
    >>> from stgraph.nn.reading_layer import ReadingLayer
    >>> layer = ReadingLayer(8, heads=2, ffn_channels=16)
    >>> layer(torch.randn(6, 8), ((2, 3, 3, 2),), beside=torch.randn(4, 2, 2, 4)).shape
    torch.Size([6, 8])
    """

    def __init__(self, channels: int, heads: int, ffn_channels: int, norm: Norm = "rms", dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise InputError(f"channels ({channels}) must be a multiple of heads ({heads}).")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be from 0 to below 1, not {dropout}.")
        self.heads = heads
        self.dropout = dropout
        self.norm = make_norm(norm, channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.ffn_norm = make_norm(norm, channels)
        self.gate_up = nn.Linear(channels, 2 * ffn_channels)
        self.down = nn.Linear(ffn_channels, channels)

    def forward(
        self, x: Tensor, sizes: ReadingSizes, source: Tensor | None = None, beside: Tensor | None = None
    ) -> Tensor:
        """New states of the tokens that read."""
        n = self.norm(x)
        read = n if source is None else self.norm(source)
        query = self.query(n).unflatten(1, (self.heads, -1))
        key_value = self.key_value(read).unflatten(1, (2, self.heads, -1))
        attended = self.out(joint_attention(query, key_value, beside, sizes).flatten(1))
        x = x + sparse_dropout(attended, self.dropout, self.training)
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=1)
        return x + sparse_dropout(self.down(F.silu(gate) * up), self.dropout, self.training)


def joint_attention(query: Tensor, key_value: Tensor, beside: Tensor | None, sizes: ReadingSizes) -> Tensor:
    """Softmax attention of the queries of each sequence on its own keys and those beside it, all in one softmax.

    Sequences that are alike go through one dense product; no other pair is computed, and nothing is padded.

    Parameters
    ----------
    query
        (T, H, D), in the order of the groups.
    key_value
        (T2, 2, H, D) likewise.
    beside
        (E, 2, H, D) likewise; None if no sequence has any.
    sizes
        Of the groups.

    Returns
    -------
    Tensor
        (T, H, D); zeros for a sequence without any key.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.reading_layer import joint_attention
    >>> own, beside = torch.zeros(1, 2, 1, 2), torch.zeros(3, 2, 1, 2)
    >>> own[:, 1], beside[:, 1] = 1.0, 5.0
    >>> joint_attention(torch.zeros(1, 1, 2), own, beside, ((1, 1, 1, 3),))
    tensor([[[4., 4.]]])
    """
    if not sizes:
        return query
    if beside is None:
        beside = key_value[:0]
    # split, for the gradient of many slices is as many tensors of full size, and that of a split is one.
    queries = torch.split(query, [n * readers for n, readers, _, _ in sizes])
    own = torch.split(key_value, [n * read for n, _, read, _ in sizes])
    others = torch.split(beside, [n * keys for n, _, _, keys in sizes])
    out = []
    for (n, readers, read, more), q, kv, other in zip(sizes, queries, own, others, strict=True):
        if not readers or not read + more:
            out.append(torch.zeros_like(q))
            continue
        keys = kv.view(n, read, *kv.shape[1:])
        if more:
            keys = torch.cat([keys, other.view(n, more, *kv.shape[1:])], dim=1)
        k, v = keys.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q.view(n, readers, *q.shape[1:]).transpose(1, 2), k, v)
        out.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(out)


def reading_groups(*lengths: Tensor) -> tuple[Tensor, ReadingSizes]:
    """Bring alike sequences together.

    Parameters
    ----------
    *lengths
        Three times (S,) int64: readers of each sequence, tokens that are read, keys beside.

    Returns
    -------
    rows : Tensor
        (S,) int64, the sequences in the order of their groups.
    sizes
        Of the groups.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.reading_layer import reading_groups
    >>> n = torch.tensor([3, 1, 3])
    >>> rows, sizes = reading_groups(n, n, torch.tensor([8, 8, 8]))
    >>> rows.tolist(), sizes
    ([1, 0, 2], ((1, 1, 1, 8), (2, 3, 3, 8)))
    """
    alike, group, count = torch.unique(
        torch.stack(lengths, dim=1).cpu(), dim=0, return_inverse=True, return_counts=True
    )
    rows = group.argsort(stable=True).to(lengths[0].device)
    return rows, tuple((n, *each) for n, each in zip(count.tolist(), alike.tolist(), strict=True))
