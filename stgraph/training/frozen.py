"""Networks that stay as they are while others are trained."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Keep networks from being trained: no gradient reaches their parameters, and they are in eval mode.

    Parameters
    ----------
    modules
        The networks. Afterwards their parameters take gradients again if they did before; they stay in eval mode, which
        a trainer ends for what it trains.

    Examples
    --------
    >>> from torch import nn
    >>> from stgraph.training.frozen import frozen
    >>> linear = nn.Linear(2, 2)
    >>> with frozen([linear]):
    ...     any(parameter.requires_grad for parameter in linear.parameters())
    False
    >>> all(parameter.requires_grad for parameter in linear.parameters())
    True
    """
    modules = list(modules)
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    for module in modules:
        module.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
