"""Where the noise of training comes from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stgraph.objectives.base import WeightedSum
from stgraph.training.batches import Batches


def seed_of(*numbers: int) -> int:
    """One seed of several numbers, none of them negative; another one of other numbers.

    Examples
    --------
    >>> from stgraph.training.noise import seed_of
    >>> seed_of(0, 1, 2) == seed_of(0, 1, 2), seed_of(0, 1, 2) == seed_of(0, 2, 1)
    (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])


class Noise(ABC):
    """Spoils batches for training."""

    generator: torch.Generator

    @abstractmethod
    def spoil(
        self,
        objective: WeightedSum,
        batches: Batches,
        units: list[Any],
        indices: Sequence[int],
        epoch: int,
        device: torch.device,
    ) -> Any:
        """The batch of these units, spoilt, on the device; ``indices`` are as the epoch named them."""

    @abstractmethod
    def before_forward(self, epoch: int, batch: int) -> None:
        """Called before the network sees a batch, of the number ``batch`` in its epoch."""


class StreamNoise(Noise):
    """One stream of random numbers through all of training: each batch takes what it needs.

    Parameters
    ----------
    random_state
        Its seed.
    """

    def __init__(self, random_state: int) -> None:
        self.generator = torch.Generator().manual_seed(random_state + 1)

    def spoil(
        self,
        objective: WeightedSum,
        batches: Batches,
        units: list[Any],
        indices: Sequence[int],
        epoch: int,
        device: torch.device,
    ) -> Any:
        """A batch that was spoilt as a whole."""
        return objective.corrupt(batches.join(units).to(device), self.generator)

    def before_forward(self, epoch: int, batch: int) -> None:
        """Dropout goes on where it was."""


class UnitNoise(Noise):
    """Noise of its own for each unit in each epoch, wherever and with whatever else it is computed.

    So training does not depend on how units are spread over processes and steps. Dropout
    depends on the seed and the number of the batch in its epoch, and on nothing before it.

    Parameters
    ----------
    random_state
        Its seed.
    """

    def __init__(self, random_state: int) -> None:
        self.random_state = random_state
        self.generator = torch.Generator()

    def spoil(
        self,
        objective: WeightedSum,
        batches: Batches,
        units: list[Any],
        indices: Sequence[int],
        epoch: int,
        device: torch.device,
    ) -> Any:
        """A batch of units that were spoilt one by one."""
        spoilt = []
        # Where a batch is one unit, its first index names it: no other batch of the epoch has it.
        for index, unit in zip(indices, units, strict=False):
            self.generator.manual_seed(seed_of(self.random_state, epoch, int(index)))
            spoilt.append(objective.corrupt(unit, self.generator))
        return batches.join(spoilt).to(device)

    def before_forward(self, epoch: int, batch: int) -> None:
        """Seed dropout."""
        torch.manual_seed(seed_of(self.random_state, epoch, batch, 1))
