"""What a step that changes the edges of a graph is, and the composition of steps with a builder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.builders import GraphBuilder


class PostProcessor(Protocol):
    """Turns the edges of a slice into other edges of the same cells.

    Attributes
    ----------
    in_microns
        Whether the parameters are lengths in microns.
    """

    @property
    def in_microns(self) -> bool:
        """Whether it counts in microns."""
        ...

    def __call__(self, near: sp.csr_matrix, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Changed edges; the input stays as it is.

        Parameters
        ----------
        near
            (N, N) edge lengths, rows in increasing order of index. An explicit zero is an
            edge between coincident cells.
        pos
            (N, 2) positions.

        Returns
        -------
        csr_matrix
            (N, N) edge lengths of the same form.
        """
        ...


@dataclass(frozen=True)
class PostProcessed:
    """A builder and the steps its edges go through, one after the other; a builder itself.

    Parameters
    ----------
    builder
        Who is whose neighbour at first.
    steps
        What is done to the edges then, in this order.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.postprocess import PostProcessed
    >>> from stgraph.graph.pruning import LengthPercentile, Mutual
    >>> mutual = PostProcessed(KNN(4, symmetric=False), [LengthPercentile(95.0), Mutual()])
    >>> near = mutual(np.random.default_rng(0).normal(size=(100, 2)))
    >>> (near != near.T).nnz, mutual.in_microns
    (0, False)
    """

    builder: GraphBuilder
    steps: Sequence[PostProcessor] = ()

    def __post_init__(self) -> None:
        given: Any = self.steps
        if not isinstance(given, list | tuple):
            raise InputError(f"PostProcessed needs a list of steps, not {given!r}.")
        for piece in (self.builder, *given):
            if not callable(piece) or not hasattr(piece, "in_microns"):
                raise InputError(
                    "PostProcessed is made of a builder and steps like MaxLength, which are callable and have "
                    f"in_microns; {piece!r} is none."
                )
        # A config gives a list, which could be changed later.
        object.__setattr__(self, "steps", tuple(given))

    @property
    def in_microns(self) -> bool:
        """Whether the builder or any step counts in microns."""
        return self.builder.in_microns or any(step.in_microns for step in self.steps)

    def __call__(self, pos: NDArray[np.float64]) -> sp.csr_matrix:
        """Edges of the cells at ``pos``; see `GraphBuilder`."""
        near = self.builder(pos)
        for step in self.steps:
            near = step(near, pos)
        return near
