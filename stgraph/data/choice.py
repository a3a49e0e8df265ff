"""Choosing some of the cells of a batch."""

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
    candidates = owned.cpu().nonzero()[:, 0]
    count = min(len(candidates), max(1, round(rate * len(candidates))))
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
    out = torch.zeros(len(owned), dtype=torch.bool)
    out[chosen] = True
    return out.to(owned.device)
