"""Which cells are the centres of one batch when a network of neighbourhoods is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.spatial_batches import SpatialBatches
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.graph.arguments import check_whole
from stgraph.training.batches import EpochSampler


class CenterBatches(Protocol):
    """Puts cells together; every cell is the centre once in an epoch."""

    def __call__(
        self,
        cells: NeighborhoodSequences,
        pos: Sequence[NDArray[np.float64]],
        *,
        max_tokens: int,
        max_cells: int,
        random_state: int,
    ) -> EpochSampler:
        """A sampler of batches.

        Parameters
        ----------
        cells
            The data set, of N cells.
        pos
            (N, 2) positions of the cells of each slice.
        max_tokens, max_cells
            Of a batch; no neighbourhood has more tokens.
        random_state
            Seed.
        """
        ...


@dataclass(frozen=True)
class RandomCenters:
    """Cells from anywhere: for networks that read each neighbourhood anew, as AIDO.Tissue does.

    Parameters
    ----------
    pool_batches
        Batches whose cells are sorted by length among themselves; see
        `stgraph.data.token_budget.TokenBudgetSampler`.

    Examples
    --------
    >>> from stgraph.tasks.center_batches import RandomCenters
    >>> RandomCenters().pool_batches
    1
    """

    pool_batches: int = 1

    def __post_init__(self) -> None:
        check_whole(self, "pool_batches")

    def __call__(
        self,
        cells: NeighborhoodSequences,
        pos: Sequence[NDArray[np.float64]],
        *,
        max_tokens: int,
        max_cells: int,
        random_state: int,
    ) -> EpochSampler:
        """See `stgraph.data.token_budget.TokenBudgetSampler`."""
        sampler = TokenBudgetSampler(
            cast(Any, cells),
            max_tokens=max_tokens,
            max_cells=max_cells,
            pool_batches=self.pool_batches,
            random_state=random_state,
        )
        return cast(EpochSampler, sampler)


@dataclass(frozen=True)
class NearbyCenters:
    """Cells of a few places: for networks that read a cell once, however many neighbours it has in the batch.

    Parameters
    ----------
    num_places
        Places of a batch: one shares most, many are most like random cells.

    Examples
    --------
    >>> from stgraph.tasks.center_batches import NearbyCenters
    >>> NearbyCenters(2).num_places
    2
    """

    num_places: int = 4

    def __post_init__(self) -> None:
        check_whole(self, "num_places")

    def __call__(
        self,
        cells: NeighborhoodSequences,
        pos: Sequence[NDArray[np.float64]],
        *,
        max_tokens: int,
        max_cells: int,
        random_state: int,
    ) -> EpochSampler:
        """See `stgraph.data.spatial_batches.SpatialBatches`."""
        sampler = SpatialBatches(
            cells,
            pos,
            max_tokens=max(max_tokens, self.num_places * int(cells.lengths.max())),
            max_cells=max(max_cells, self.num_places),
            num_places=self.num_places,
            random_state=random_state,
        )
        return cast(EpochSampler, sampler)
