"""Attention inside each of many sequences that lie end to end, without padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from stgraph.nn.packed_sequences import positions_of
from stgraph.nn.sparse_dropout import dropped, is_sparse, zero_at

_WEIGHTS_AT_ONCE = 1 << 20
"""Attention weights of a group that are made as a matrix, which is where some are to be dropped: four megabytes."""


@dataclass(frozen=True)
class SequenceGroups:
    """Sequences brought together by length, so that each length is one dense product.

    Attributes
    ----------
    sizes
        For each group how many sequences it has, their queries and their keys.
    order, key_order
        (T,) and (T2,) where in the packed tokens those of the groups are, one group after another; None where that is
        the order they have.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.packed_attention import SequenceGroups
    >>> groups = SequenceGroups.of(torch.tensor([0, 2, 3, 5]))
    >>> groups.sizes, groups.order.tolist()
    (((1, 1, 1), (2, 2, 2)), [2, 0, 1, 3, 4])
    """

    sizes: tuple[tuple[int, int, int], ...]
    order: Tensor | None
    key_order: Tensor | None

    @classmethod
    def of(cls, offsets: Tensor, key_offsets: Tensor | None = None) -> Self:
        """Groups of sequences.

        Parameters
        ----------
        offsets
            (S + 1,) int64: sequence s has the queries from ``offsets[s]`` to ``offsets[s + 1]``.
        key_offsets
            (S + 1,) the same of the keys; None where they are those of the queries.

        Raises
        ------
        ValueError
            If offsets do not ascend from 0, or there are not as many of both.
        """
        lengths = _lengths(offsets)
        key_lengths = lengths if key_offsets is None else _lengths(key_offsets)
        if len(lengths) != len(key_lengths):
            raise ValueError(f"There are {len(lengths)} sequences of queries, and {len(key_lengths)} of keys.")
        both = torch.stack([lengths, key_lengths], dim=1)
        if not len(both):
            return cls((), None, None)
        unique, group, count = torch.unique(both, dim=0, return_inverse=True, return_counts=True)
        sizes = tuple((n, *pair) for n, pair in zip(count.tolist(), unique.tolist(), strict=True))
        if bool((group.diff() >= 0).all()):
            return cls(sizes, None, None)
        rows = group.argsort(stable=True)
        order = _tokens_of(rows, lengths).to(offsets.device)
        return cls(sizes, order, order if key_offsets is None else _tokens_of(rows, key_lengths).to(offsets.device))

    def gather(self, x: Tensor) -> Tensor:
        """Queries (T, ...) in the order of the groups."""
        return x if self.order is None else x.index_select(0, self.order)

    def scatter(self, x: Tensor) -> Tensor:
        """The inverse of `gather`."""
        return x if self.order is None else x.index_select(0, self.order.argsort())


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    key_offsets: Tensor | None = None,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax attention of queries on the keys of their own sequence.

    No pair of tokens of different sequences is computed, nor any padding: sequences of equal length are brought
    together and go through one dense product.

    Parameters
    ----------
    query
        (T, H, D) of all sequences, end to end.
    key, value
        (T2, H, D) likewise.
    offsets
        (S + 1,) int64, from 0 to T: sequence s has the queries from ``offsets[s]`` to ``offsets[s + 1]``.
    key_offsets
        (S + 1,) int64, from 0 to T2, the same of the keys; None for those of the queries (self-attention).
    dropout
        Probability that an attention weight is dropped; give 0 outside of training.

    Returns
    -------
    Tensor
        (T, H, D); zeros for queries whose sequence has no keys.

    Raises
    ------
    ValueError
        If shapes and offsets do not fit together.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.packed_attention import packed_attention
    >>> x = torch.randn(5, 2, 4)
    >>> both = packed_attention(x, x, x, torch.tensor([0, 2, 5]))
    >>> first = packed_attention(x[:2], x[:2], x[:2], torch.tensor([0, 2]))
    >>> torch.allclose(both[:2], first)
    True
    """
    ends = offsets if key_offsets is None else key_offsets
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be from 0 to below 1, not {dropout}.")
    if query.dim() != 3 or key.shape != value.shape or query.shape[1:] != key.shape[1:]:
        shapes = ", ".join(str(tuple(t.shape)) for t in (query, key, value))
        raise ValueError(f"packed_attention needs query (T, H, D), key and value (T2, H, D), not {shapes}.")
    groups = SequenceGroups.of(offsets, key_offsets)
    if (int(offsets[-1]), int(ends[-1])) != (len(query), len(key)):
        raise ValueError(
            f"The offsets end at {int(offsets[-1])} queries and {int(ends[-1])} keys, but there are {len(query)} and "
            f"{len(key)}."
        )
    keys, values = (t if groups.key_order is None else t.index_select(0, groups.key_order) for t in (key, value))
    return groups.scatter(grouped_attention(groups.gather(query), keys, values, groups.sizes, dropout=dropout))


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, sizes: tuple[tuple[int, int, int], ...], *, dropout: float = 0.0
) -> Tensor:
    """`packed_attention` on tokens that are in the order of their groups already, as a network of many layers has them.

    Parameters
    ----------
    query, key, value, dropout
        As for `packed_attention`.
    sizes
        Of `SequenceGroups`.

    Returns
    -------
    Tensor
        (T, H, D).
    """
    if dropout and is_sparse(query, dropout):
        sizes = tuple(_small_groups(sizes, query.shape[1]))
    # split, for the gradient of many slices is as many tensors of full size, and that of a split is one.
    queries = torch.split(query, [n * length for n, length, _ in sizes])
    keys, values = (torch.split(t, [n * length for n, _, length in sizes]) for t in (key, value))
    if not sizes:
        return query
    gone: Sequence[Tensor | None] = [None] * len(sizes)
    if dropout and is_sparse(query, dropout):
        gone = _dropped_of_groups([n * query.shape[1] * a * b for n, a, b in sizes], dropout)
    groups = zip(sizes, queries, keys, values, gone, strict=True)
    return torch.cat([_attend(n, q, k, v, at, dropout) for (n, _, _), q, k, v, at in groups])


def _attend(n: int, q: Tensor, k: Tensor, v: Tensor, gone: Tensor | None, dropout: float) -> Tensor:
    """Queries (n * length, H, D) of n sequences of one length on as many keys each."""
    if not len(q) or not len(k):
        return torch.zeros_like(q)
    q, k, v = (t.view(n, -1, *t.shape[1:]).transpose(1, 2) for t in (q, k, v))
    if gone is None:
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    else:
        # torch would draw a number for each weight, which takes longer than the attention.
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(-1)
        out = zero_at(weights, gone, dropout) @ v
    return out.transpose(1, 2).flatten(0, 1)


def _small_groups(sizes: tuple[tuple[int, int, int], ...], heads: int) -> Iterator[tuple[int, int, int]]:
    """The same sequences, in groups whose attention weights stay in the cache between one step and the next."""
    for n, length, key_length in sizes:
        most = max(1, _WEIGHTS_AT_ONCE // max(1, heads * length * key_length))
        yield from ((min(most, n - begin), length, key_length) for begin in range(0, n, most))


def _dropped_of_groups(counts: list[int], dropout: float) -> Sequence[Tensor]:
    """Which weights are dropped, numbered within each group; drawn once, for a draw is many small steps."""
    ends = torch.tensor(counts).cumsum(0)
    gone = dropped(int(ends[-1]), dropout)
    bounds = torch.searchsorted(gone, ends)
    parts = torch.split(gone, bounds.diff(prepend=bounds.new_zeros(1)).tolist())
    return [part - begin for part, begin in zip(parts, [0, *ends.tolist()], strict=False)]


def _lengths(offsets: Tensor) -> Tensor:
    """Lengths of the sequences, on the CPU."""
    offsets = offsets.cpu()
    lengths = offsets.diff()
    if offsets.dim() != 1 or not len(offsets) or int(offsets[0]) != 0 or bool((lengths < 0).any()):
        raise ValueError("Offsets of sequences must be (S + 1,) and ascend from 0.")
    return lengths


def _tokens_of(rows: Tensor, lengths: Tensor) -> Tensor:
    """Numbers of the tokens of sequences, in the order of ``rows``."""
    return positions_of((lengths.cumsum(0) - lengths)[rows], lengths[rows])
