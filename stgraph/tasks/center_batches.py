"""Which cells are the centres of one batch when a network of neighbourhoods is trained."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.spatial_batches import SpatialBatches
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.errors import StgraphWarning
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
            Most of a batch; no neighbourhood has more tokens.
        random_state
            Seed.

        Warns
        -----
        StgraphWarning
            If most batches have fewer than ``max_cells`` centres for the sake of ``max_tokens``.
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
        _warn_if_small(sampler.batches(0), max_cells, 1)
        return cast(EpochSampler, sampler)


@dataclass(frozen=True)
class NearbyCenters:
    """Cells of a few places: for networks that read a cell once, however many neighbours it has in the batch.

    Of ``max_tokens``, cells that several centres of a place share count once.

    Parameters
    ----------
    num_places
        Places of a batch: one shares most, many are most like random cells. Fewer, with a warning, where so many do not
        fit into a batch.

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
        num_places = min(self.num_places, max_cells, max(1, max_tokens // int(cells.lengths.max(initial=1))))
        if num_places < self.num_places:
            warnings.warn(
                f"Batches are of {num_places} places rather than {self.num_places}: more do not fit into "
                f"max_cells={max_cells} and max_tokens={max_tokens}.",
                StgraphWarning,
                stacklevel=2,
            )
        sampler = SpatialBatches(
            cells,
            pos,
            max_tokens=max_tokens,
            max_cells=max_cells,
            num_places=num_places,
            random_state=random_state,
        )
        # The last place of each slice, and the last batch, have what is left.
        _warn_if_small(sampler.batches(0), max_cells // num_places * num_places, len(pos) + 1)
        return cast(EpochSampler, sampler)


def _warn_if_small(batches: Sequence[NDArray[np.int64]], max_cells: int, leftovers: int) -> None:
    """Say so if most batches were ended by their tokens; up to some end because cells do."""
    sizes = np.array([len(batch) for batch in batches])
    if (sizes < max_cells).sum() - leftovers > len(sizes) / 2:
        warnings.warn(
            f"A step has some {sizes.mean():.0f} centres rather than max_cells={max_cells}, for max_tokens ends most "
            "batches: max_tokens=null has no such limit; where memory does, take a smaller max_cells and more "
            "trainer.accumulate.",
            StgraphWarning,
            stacklevel=3,
        )
