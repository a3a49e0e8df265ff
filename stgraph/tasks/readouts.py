"""What is read out of a trained model as the description of a cell."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.tasks.pretrained import Pretrained


class Readout(Protocol):
    """Reads a description of the cells of a slice graph out of a model."""

    def fit(self, model: Pretrained, graphs: Iterable[SliceGraph]) -> Self:
        """Learn what it needs to know about the slices the model was fitted on, without labels."""
        ...

    def __call__(self, model: Pretrained, graph: SliceGraph) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one graph that ``model`` built."""
        ...


@dataclass(frozen=True)
class Context:
    """The embedding: what the surroundings of a cell say about it, without its own counts.

    Regions of tissue are read from it.
    """

    def fit(self, model: Pretrained, graphs: Iterable[SliceGraph]) -> Self:
        """Learn nothing."""
        return self

    def __call__(self, model: Pretrained, graph: SliceGraph) -> NDArray[np.float32]:
        """(N, C) embedding, as `stgraph.embed` gives it."""
        return model.embed_graph(graph)


@dataclass(frozen=True)
class Own:
    """The features of the cell itself, from the cell encoder of the model.

    Its type is read from them. No weight of the network enters.
    """

    def fit(self, model: Pretrained, graphs: Iterable[SliceGraph]) -> Self:
        """Learn nothing."""
        return self

    def __call__(self, model: Pretrained, graph: SliceGraph) -> NDArray[np.float32]:
        """(N, C) features."""
        return graph.x


@dataclass
class SideBySide:
    """Several readouts next to each other, none of which drowns another.

    Each is centred and scaled as a whole, by what is learnt from the training slices
    together, so that all have the same total variance there and the variance of a column
    is 1 on average. A slice is never scaled by itself, which would hide that its tissue
    is composed otherwise.

    Parameters
    ----------
    readouts
        The readouts.

    Examples
    --------
    >>> from stgraph.tasks.readouts import Context, Own, SideBySide
    >>> len(SideBySide([Own(), Context()]).readouts)
    2
    """

    readouts: Sequence[Readout] = field(default_factory=lambda: [Own(), Context()])
    _means: list[NDArray[np.float64]] = field(default_factory=list, init=False, repr=False)
    _factors: list[float] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.readouts:
            raise InputError("SideBySide needs at least one readout.")

    def fit(self, model: Pretrained, graphs: Iterable[SliceGraph]) -> Self:
        """Learn the mean and the total variance of each readout."""
        graphs = list(graphs)
        self._means, totals, widths = [], [], []
        for readout in self.readouts:
            readout.fit(model, graphs)
            x = np.concatenate([readout(model, graph) for graph in graphs]).astype(np.float64)
            self._means.append(x.mean(axis=0))
            totals.append(float(x.var(axis=0).sum()))
            widths.append(x.shape[1])
        each = sum(widths) / len(widths)
        # What does not vary stays as it is: it cannot drown anything.
        self._factors = [float(np.sqrt(each / total)) if total > 0 else 1.0 for total in totals]
        return self

    def __call__(self, model: Pretrained, graph: SliceGraph) -> NDArray[np.float32]:
        """(N, sum of all C), in the order of the readouts."""
        if not self._means:
            raise InputError("SideBySide was not fitted: call fit(model, graphs) first.")
        blocks = [
            (readout(model, graph) - mean) * factor
            for readout, mean, factor in zip(self.readouts, self._means, self._factors, strict=True)
        ]
        return np.concatenate(blocks, axis=1).astype(np.float32)
