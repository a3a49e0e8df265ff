"""The optimiser, and how its learning rate goes up and down."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stgraph.objectives.balance import LearnedBalance

Schedule = Literal["cosine", "linear"]


def adamw(
    module: nn.Module, *, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW that decays matrices only, tables of embeddings among them.

    An embedding of one row, and a matrix of one number, are no matrices: a network may keep centres and widths in them.

    Parameters
    ----------
    module
        Whose parameters. Those of a `stgraph.objectives.balance.LearnedBalance` in it are a group of their own, whose
        ``own_lr`` is to stand in place of ``lr``.
    lr, weight_decay, betas
        As of `torch.optim.AdamW`.

    Examples
    --------
    >>> from torch import nn
    >>> from stgraph.training.optim import adamw
    >>> [group["weight_decay"] for group in adamw(nn.Linear(2, 3), lr=0.1, weight_decay=0.5).param_groups]
    [0.5, 0.0]
    """
    balances = [each for each in module.modules() if isinstance(each, LearnedBalance)]
    own = {id(p) for balance in balances for p in balance.parameters()}
    rows = {id(e.weight) for e in module.modules() if isinstance(e, nn.Embedding) and e.num_embeddings == 1}
    parameters = [p for p in module.parameters() if id(p) not in own]
    matrices = [p for p in parameters if p.ndim >= 2 and p.numel() > 1 and id(p) not in rows]
    chosen = {id(p) for p in matrices}
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in chosen], "weight_decay": 0.0},
        *({"params": list(each.parameters()), "weight_decay": 0.0, "own_lr": each.lr} for each in balances),
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas)


def set_lr(optimizer: torch.optim.Optimizer, lr: float, share: float) -> float:
    """Give each group its share of its largest learning rate, which is ``lr`` but for groups with one of their own.

    Returns
    -------
    float
        That of ``lr``.
    """
    for group in optimizer.param_groups:
        group["lr"] = group.get("own_lr", lr) * share
    return lr * share


def clipped(optimizer: torch.optim.Optimizer) -> list[Tensor] | None:
    """The parameters whose gradients are clipped, where not all are: those with a learning rate of their own are not.

    A weight of losses has a gradient of its own scale, which would be lost in that of a large network.
    """
    groups = [group for group in optimizer.param_groups if "own_lr" not in group]
    if len(groups) == len(optimizer.param_groups):
        return None
    return [p for group in groups for p in group["params"]]


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
