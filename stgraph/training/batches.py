"""Where batches come from: what each holds is decided before any is made."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch.utils.data import BatchSampler, Dataset, RandomSampler
from torch_geometric.data import Batch, HeteroData

from stgraph.errors import InputError


@runtime_checkable
class Batches(Protocol):
    """What a `stgraph.training.loop.Trainer` asks of data.

    A batch is made of *units*: the smallest things that each have noise of their own, so
    that it does not matter which process, or which batch, a unit is in.
    """

    def epoch(self, number: int) -> Sequence[Sequence[int]]:
        """Indices of each batch of an epoch, counted from 1: the same whenever it is asked."""
        ...

    def units(self, indices: Sequence[int]) -> list[Any]:
        """The units of one batch; the noise of each is named by the index at its place."""
        ...

    def join(self, units: list[Any]) -> Any:
        """Units, spoilt or not, as one batch."""
        ...


class PartBatches:
    """Parts of slices, drawn without replacement. A unit is a part.

    Parameters
    ----------
    dataset
        The parts.
    batch_size
        Parts in a batch; fewer in the last of an epoch.
    random_state
        Seed of the order.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.parts import PartDataset
    >>> from stgraph.partition.spatial import CoordinateBisection
    >>> from stgraph.training.batches import PartBatches
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> batches = PartBatches(PartDataset([graph], CoordinateBisection(100)), batch_size=3)
    >>> [len(indices) for indices in batches.epoch(1)]
    [3, 1]
    """

    def __init__(self, dataset: Dataset[HeteroData], batch_size: int = 1, random_state: int = 0) -> None:
        if len(cast(Sized, dataset)) == 0:
            raise InputError("There is no part to train on.")
        self.dataset: Any = dataset
        self.batch_size = batch_size
        self.random_state = random_state
        self._order = torch.Generator().manual_seed(random_state)
        self._drawn = 0

    def epoch(self, number: int) -> list[list[int]]:
        """Indices of the parts of each batch; epochs before this one are drawn again if they must be."""
        if number <= self._drawn:
            self._order.manual_seed(self.random_state)
            self._drawn = 0
        indices: list[list[int]] = []
        while self._drawn < number:
            # The order in which torch.utils.data.DataLoader draws, which begins with a seed for workers.
            torch.empty((), dtype=torch.int64).random_(generator=self._order)
            sampler = RandomSampler(self.dataset, generator=self._order)
            indices = list(BatchSampler(sampler, self.batch_size, drop_last=False))
            self._drawn += 1
        return indices

    def units(self, indices: Sequence[int]) -> list[HeteroData]:
        """The parts."""
        return [self.dataset[index] for index in indices]

    def join(self, units: list[HeteroData]) -> HeteroData:
        """The parts side by side."""
        return Batch.from_data_list(units)


class EpochSampler(Protocol):
    """A sampler of batches whose order follows from its seed and the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""
        ...

    def __iter__(self) -> Iterator[Sequence[int]]:
        """Indices of each batch."""
        ...


class SampledBatches:
    """Batches as a sampler puts them together. A unit is a batch: what is in one is never torn apart.

    Parameters
    ----------
    dataset
        Asked for a whole batch by its indices.
    sampler
        Says what each batch holds, such as `stgraph.data.token_budget.TokenBudgetSampler`. Its ``set_epoch`` is
        called before each epoch, with numbers from 0.
    collate
        Makes a batch of single items, for a ``dataset`` that gives one at a time.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.cell_sequences import CellSequences
    >>> from stgraph.data.token_budget import TokenBudgetSampler
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> from stgraph.training.batches import SampledBatches
    >>> cells = CellSequences([RaggedTokens(np.array([9, 2, 3, 9, 4, 9], np.int32), np.array([0, 3, 5, 6]))])
    >>> batches = SampledBatches(cells, TokenBudgetSampler(cells, max_tokens=4))
    >>> len(batches.epoch(1))
    2
    """

    def __init__(
        self, dataset: Any, sampler: EpochSampler, collate: Callable[[Iterable[Any]], Any] | None = None
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.collate = collate

    def epoch(self, number: int) -> list[Sequence[int]]:
        """Indices of each batch, as the sampler gives them."""
        self.sampler.set_epoch(number - 1)
        batches = list(self.sampler)
        if not batches:
            raise InputError("There is nothing to train on: the sampler gives no batch.")
        return batches

    def units(self, indices: Sequence[int]) -> list[Any]:
        """The batch."""
        if self.collate is None:
            return [self.dataset[indices]]
        return [self.collate([self.dataset[index] for index in indices])]

    def join(self, units: list[Any]) -> Any:
        """The batch."""
        return units[0]


def num_cells(batch: Any) -> int:
    """Cells a batch is about, without those that are there as context only."""
    return int(batch["cell"].owned.sum()) if isinstance(batch, HeteroData) else int(batch.num_cells)
