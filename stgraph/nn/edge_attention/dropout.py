"""Which attention weights are dropped: a function of a seed, so that every backend drops the same ones."""

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def draw_seed() -> Tensor:
    """A seed of 62 bits from torch's generator, a scalar int64.

    Returns
    -------
    Tensor
        On the CPU: it is drawn there for every device, so that one ``torch.manual_seed`` gives the same on all.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.edge_attention.dropout import draw_seed
    >>> draw_seed().dtype
    torch.int64
    """
    return torch.randint(2**62, (), dtype=torch.int64, device="cpu")


def kept(seed: Tensor, num_edges: int, heads: int, dropout: float) -> Tensor:
    """What each attention weight is multiplied by: 0 if it is dropped, 1 / (1 - dropout) if not.

    The weight of edge e and head h has the number ``e * heads + h``, which is mixed with the two halves of the
    seed by Wellons' "lowbias32". Nothing has to be kept for the backward pass: it is made again.

    Parameters
    ----------
    seed
        Scalar int64, not negative.
    num_edges, heads
        E and H.
    dropout
        Probability from 0 to below 1.

    Returns
    -------
    Tensor
        (E, H) float32, on the device of the seed.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.edge_attention.dropout import kept
    >>> kept(torch.tensor(1), 2, 3, dropout=0.5).unique().tolist()
    [0.0, 2.0]
    """
    number = torch.arange(num_edges * heads, device=seed.device)
    x = _mixed(((number & _MASK) + (seed & _MASK)) & _MASK)
    x = _mixed(x ^ (seed >> 32))
    return ((x >= threshold(dropout)) * (1.0 / (1.0 - dropout))).to(torch.float32).view(num_edges, heads)


def threshold(dropout: float) -> int:
    """Mixed numbers of 32 bits below this are dropped."""
    return int(dropout * 2**32)


def _mixed(x: Tensor) -> Tensor:
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)
