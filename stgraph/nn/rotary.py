"""Rotary embedding in two dimensions: which gene a token is, and at which place of the neighbourhood its cell is."""

import torch
from torch import Tensor

from stgraph.errors import InputError

THETA = 10_000.0
"""Base of the wavelengths."""


def rotation(gene: Tensor, slot: Tensor, head_channels: int) -> Tensor:
    """By how much the queries and keys of tokens are turned.

    One half of the channels of a head is turned by the gene, the other by the slot, so that products of queries and
    keys depend on differences of either; in each half the wavelengths are those of RoPE.

    Parameters
    ----------
    gene
        (T,) int64, the number of each token's gene.
    slot
        (T,) int64, 0 for the tokens of the centre, 1 for those of its nearest neighbour and so on.
    head_channels
        D, a multiple of 4.

    Returns
    -------
    Tensor
        (T, D / 2) complex64, numbers of length 1.

    Raises
    ------
    InputError
        If D is no multiple of 4.

    References
    ----------
    Su et al., RoFormer: enhanced transformer with rotary position embedding (2021).

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.rotary import rotation
    >>> rotation(torch.tensor([0, 7]), torch.tensor([0, 1]), 8).shape
    torch.Size([2, 4])
    """
    check_head_channels(head_channels)
    half = head_channels // 2
    # In float32 as published: at gene 19,000 the rounding of an angle shows in the third digit of its cosine.
    frequency = 1.0 / THETA ** (torch.arange(0, half, 2, device=gene.device).float() / half)
    of_gene = gene.float()[:, None] * frequency
    of_slot = slot.float()[:, None] * frequency
    angle = torch.cat([of_gene, of_slot], dim=1)
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, by: Tensor) -> Tensor:
    """Turn pairs of channels.

    Parameters
    ----------
    x
        (T, H, D) queries or keys, the two channels of a pair side by side: see `side_by_side`.
    by
        (T, D / 2) of `rotation`; zeros give zeros.

    Returns
    -------
    Tensor
        (T, H, D), of the type of ``x``.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.rotary import rotate, rotation
    >>> x = torch.randn(2, 1, 8)
    >>> turned = rotate(x, rotation(torch.tensor([0, 7]), torch.tensor([0, 1]), 8))
    >>> torch.allclose(turned[0], x[0]), torch.allclose(turned.norm(dim=-1), x.norm(dim=-1))
    (True, True)
    """
    # As complex numbers it is one product without temporaries, forward and backward.
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], by.shape[1], 2))
    return torch.view_as_real(pairs * by.unsqueeze(1)).flatten(-2).type_as(x)


def side_by_side(heads: int, head_channels: int) -> Tensor:
    """Rows of a projection in an order that brings the two channels of each pair side by side.

    In the published weights channel i of a half is paired with channel i + D / 4. Products of queries and keys do not
    depend on the order of their channels, so that rows of both are reordered, and states need not be.

    Parameters
    ----------
    heads, head_channels
        H and D, a multiple of 4.

    Returns
    -------
    Tensor
        (H * D,) int64.

    Examples
    --------
    >>> from stgraph.nn.rotary import side_by_side
    >>> side_by_side(1, 8).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    check_head_channels(head_channels)
    rows = torch.arange(heads * head_channels).view(heads * 2, 2, head_channels // 4)
    return rows.transpose(1, 2).flatten()


def check_head_channels(head_channels: int) -> None:
    """Refuse heads that do not divide into two halves of pairs.

    Raises
    ------
    InputError
        If they do not.
    """
    if head_channels < 4 or head_channels % 4:
        raise InputError(
            f"A rotary embedding in two dimensions needs heads of a multiple of 4 channels, not {head_channels}: give "
            "hidden_channels that are a multiple of 4 times the heads."
        )
