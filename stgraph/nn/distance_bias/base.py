"""What every distance bias is."""

from typing import Protocol

from torch import Tensor


class DistanceBias(Protocol):
    """A module that makes one number for each edge and head of the length and the type of the edge.

    It says how many ``heads`` H it has, and how many ``num_edge_types`` it tells apart, numbered from 0; None if it
    looks at none.

    Shapes
    ------
    distance, edge_type : (E,), in multiples of the spacing of the slice, and int64
    output : (E, H)
    """

    @property
    def heads(self) -> int:
        """H."""
        ...

    @property
    def num_edge_types(self) -> int | None:
        """Types it tells apart."""
        ...

    def __call__(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """Bias of each edge and head."""
        ...
