"""What a network sees of the value of a gene: one vector of channels for one number."""

import torch
from torch import Tensor, nn

from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole


class ContinuousValues(nn.Module):
    """A small network on ``log1p`` of the value, counted from a mean and in spreads that are learnt with `fit`.

    Parameters
    ----------
    channels
        C.
    hidden_channels
        Width in between.

    Shapes
    ------
    values : (T,), 0 or more
    output : (T, C)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.value_embedding import ContinuousValues
    >>> ContinuousValues(8)(torch.tensor([0.0, 3.5])).shape
    torch.Size([2, 8])
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, hidden_channels: int = 64) -> None:
        super().__init__()
        self.channels = channels
        self.hidden_channels = hidden_channels
        check_whole(self, "channels")
        check_whole(self, "hidden_channels")
        # Before fit: as parts per ten thousand are in panels of some hundred genes.
        self.register_buffer("mean", torch.tensor([4.0]))
        self.register_buffer("spread", torch.tensor([1.0]))
        self.network = nn.Sequential(nn.Linear(1, hidden_channels), nn.GELU(), nn.Linear(hidden_channels, channels))

    def fit(self, values: Tensor) -> "ContinuousValues":
        """Learn mean and spread of ``log1p``.

        Parameters
        ----------
        values
            (n,) of training cells. Values that are not positive, such as those of class tokens, do not count.

        Returns
        -------
        ContinuousValues
            Itself.

        Raises
        ------
        InputError
            If none is positive.
        """
        logs = _positive(values, self).log1p()
        self.mean = logs.mean()[None].to(self.mean)
        self.spread = logs.std(correction=0).clamp(min=1e-3)[None].to(self.spread)
        return self

    def forward(self, values: Tensor) -> Tensor:
        """One vector for each value."""
        out: Tensor = self.network(((values.log1p() - self.mean) / self.spread)[:, None])
        return out


class BinnedValues(nn.Module):
    """One vector for each bin of values; bins are learnt with `fit`, so that each holds as many of those given.

    Parameters
    ----------
    channels
        C.
    num_bins
        How many.

    Shapes
    ------
    values : (T,)
    output : (T, C)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.value_embedding import BinnedValues
    >>> binned = BinnedValues(8, num_bins=4).fit(torch.arange(1.0, 101.0))
    >>> binned.bins(torch.tensor([0.0, 10.0, 26.0, 60.0, 1000.0]))
    tensor([0, 0, 1, 2, 3])
    >>> binned(torch.tensor([0.0, 3.5])).shape
    torch.Size([2, 8])
    """

    edges: Tensor

    def __init__(self, channels: int, num_bins: int = 32) -> None:
        super().__init__()
        self.channels = channels
        self.num_bins = num_bins
        check_whole(self, "channels")
        check_whole(self, "num_bins", least=2)
        self.embedding = nn.Embedding(num_bins, channels)
        # Before fit: parts per ten thousand, from less than one to all.
        self.register_buffer("edges", torch.logspace(0, 4, num_bins - 1))

    def fit(self, values: Tensor) -> "BinnedValues":
        """Learn the bins.

        Parameters
        ----------
        values
            (n,) of training cells. Values that are not positive, such as those of class tokens, do not count.

        Returns
        -------
        BinnedValues
            Itself.

        Raises
        ------
        InputError
            If none is positive.
        """
        positive = _positive(values, self)
        # torch.quantile refuses more than 16 million.
        ranked = positive.sort().values
        at = torch.linspace(0, 1, self.num_bins + 1, dtype=torch.float64)[1:-1] * (len(ranked) - 1)
        self.edges = ranked[at.round().long()].to(self.edges)
        return self

    def bins(self, values: Tensor) -> Tensor:
        """(T,) int64, the bin of each value: 0 for the least."""
        return torch.bucketize(values.to(self.edges.dtype), self.edges, right=True)

    def forward(self, values: Tensor) -> Tensor:
        """One vector for each value."""
        out: Tensor = self.embedding(self.bins(values))
        return out


def _positive(values: Tensor, owner: nn.Module) -> Tensor:
    positive = values[values > 0].double()
    if len(positive) == 0:
        raise InputError(f"{type(owner).__name__} needs positive values to learn from.")
    return positive
