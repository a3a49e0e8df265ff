"""Choosing some of the cells of a batch."""

from collections.abc import Sequence

import torch
from torch import Tensor


def choose_cells(owned: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Choose a share of the owned cells, at least one.

    Parameters
    ----------
    owned
        (N,) bool, which cells may be chosen.
    rate
        Share of them.
    generator
        On the CPU.

    Returns
    -------
    Tensor
        (N,) bool on the device of ``owned``.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.choice import choose_cells
    >>> int(choose_cells(torch.arange(10) < 8, 0.5, torch.Generator().manual_seed(0)).sum())
    4
    """
    return choose_disjoint(owned, (rate,), generator)[0]


def choose_disjoint(owned: Tensor, rates: Sequence[float], generator: torch.Generator) -> list[Tensor]:
    """Choose several shares of the owned cells, none of them twice.

    Parameters
    ----------
    owned
        (N,) bool, which cells may be chosen.
    rates
        Shares of them; at least one cell each, as far as there are cells, and none for 0.
    generator
        On the CPU.

    Returns
    -------
    list of Tensor
        For each share, (N,) bool on the device of ``owned``.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.choice import choose_disjoint
    >>> masked, shown = choose_disjoint(torch.ones(100, dtype=torch.bool), (0.12, 0.03), torch.Generator())
    >>> int(masked.sum()), int(shown.sum()), bool((masked & shown).any())
    (12, 3, False)
    """
    candidates = owned.cpu().nonzero()[:, 0]
    order = torch.randperm(len(candidates), generator=generator)
    chosen, begin = [], 0
    for rate in rates:
        count = max(1, round(rate * len(candidates))) if rate > 0 else 0
        out = torch.zeros(len(owned), dtype=torch.bool)
        out[candidates[order[begin : begin + count]]] = True
        chosen.append(out.to(owned.device))
        begin += count
    return chosen
