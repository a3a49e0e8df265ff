"""What fine-tuning asks of a network that learnt without labels."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from stgraph.data.truth import known

Truth = Mapping[str, NDArray[Any]]
"""By slice: (N,) classes, -1 where nothing is to be known; or (N, D) values, NaN there."""


class HeadedNetwork(Protocol):
    """A network with a head: ``linear`` and perhaps hidden layers beside it."""

    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Let the head begin as a linear one that was found otherwise."""
        ...


class Tuned(Protocol):
    """A network with a head, and what it needs to read a slice.

    Attributes
    ----------
    model
        An `nn.Module` that is a `HeadedNetwork`.
    """

    model: Any


class Tunable(Protocol):
    """Slices, read by a network that is going to be trained on them."""

    def read(self, truth: Truth) -> NDArray[np.floating]:
        """(n, C) what a head is given of the cells that are known, slice by slice, by the network as it was given."""
        ...

    def begin(self, out_channels: int, head_channels: Sequence[int], dropout: float) -> Tuned:
        """A copy of the network with a drawn head."""
        ...

    def data(self, truth: Truth) -> Any:
        """What a `stgraph.training.loop.Trainer` trains on: the known cells."""
        ...

    def said(self, tuned: Tuned, truth: Truth) -> NDArray[np.floating]:
        """(n, K) what the trained network says of the cells that are known, slice by slice."""
        ...

    def predict(self, tuned: Tuned, adata: AnnData) -> NDArray[np.floating]:
        """(N, K) what it says of all cells of a slice."""
        ...


def known_rows(said: Mapping[str, NDArray[np.floating]], truth: Truth) -> NDArray[np.floating]:
    """What is said of the known cells of all slices that have a truth, in their order."""
    return np.concatenate([said[name][known(y)] for name, y in truth.items()])


def known_truth(truth: Truth) -> NDArray[Any]:
    """The truth of the known cells of all slices, in their order."""
    return np.concatenate([y[known(y)] for y in truth.values()])
