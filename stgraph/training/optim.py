"""The optimiser, and how its learning rate goes up and down."""

import math
from typing import Literal

import torch
from torch import nn

Schedule = Literal["cosine", "linear"]


def adamw(module: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices only.

    Parameters
    ----------
    module
        Whose parameters.
    lr, weight_decay
        As of `torch.optim.AdamW`.

    Examples
    --------
    >>> from torch import nn
    >>> from stgraph.training.optim import adamw
    >>> [group["weight_decay"] for group in adamw(nn.Linear(2, 3), lr=0.1, weight_decay=0.5).param_groups]
    [0.5, 0.0]
    """
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


def share_of_lr(schedule: Schedule, step: int, warmup_steps: int, max_steps: int) -> float:
    """Share of the largest learning rate at a step: `warmup_cosine` or `warmup_linear`."""
    return {"cosine": warmup_cosine, "linear": warmup_linear}[schedule](step, warmup_steps, max_steps)


def warmup_cosine(step: int, warmup_steps: int, max_steps: int) -> float:
    """Share of the largest learning rate at a step: linear up, then a cosine down to zero.

    Parameters
    ----------
    step
        From 0.
    warmup_steps, max_steps
        Where the rise ends and where training does.

    Returns
    -------
    float
        From 0 to 1; never 0 at the first step.

    Examples
    --------
    >>> from stgraph.training.optim import warmup_cosine
    >>> [round(warmup_cosine(step, 2, 6), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup_linear(step: int, warmup_steps: int, max_steps: int) -> float:
    """Share of the largest learning rate at a step: linear up, then linear down to zero.

    Parameters
    ----------
    step, warmup_steps, max_steps
        As of `warmup_cosine`.

    Returns
    -------
    float
        From 0 to 1; never 0 before ``max_steps``.

    Examples
    --------
    >>> from stgraph.training.optim import warmup_linear
    >>> [warmup_linear(step, 2, 6) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return 1 - min(1.0, progress)
