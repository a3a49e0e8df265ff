"""Learning-rate schedules."""

import math


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
