"""An order of training that is a function of the epoch alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class EpochBatches(Sampler[list[int]], ABC):
    """Batches of an epoch, made when they are asked for, that training can go on with at any place.

    Attributes
    ----------
    epoch
        Whose batches it iterates over; see `set_epoch`.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._first_batch = 0
        self._of_epoch: tuple[int, list[NDArray[np.int64]]] | None = None

    @abstractmethod
    def _make(self, epoch: int) -> list[NDArray[np.int64]]:
        """Cells of each batch: the same whenever it is asked for."""

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Go over this epoch next, once from ``first_batch`` on and then whole."""
        self.epoch = epoch
        self._first_batch = first_batch

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Cells of each batch of an epoch."""
        if self._of_epoch is None or self._of_epoch[0] != epoch:
            self._of_epoch = epoch, self._make(epoch)
        return self._of_epoch[1]

    def __iter__(self) -> Iterator[list[int]]:
        first, self._first_batch = self._first_batch, 0
        yield from (batch.tolist() for batch in self.batches(self.epoch)[first:])

    def __len__(self) -> int:
        """Batches of the epoch; other epochs may have a few more or fewer."""
        return len(self.batches(self.epoch))
