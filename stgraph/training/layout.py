"""Who does what: the batches of an epoch in steps, and those of a step among processes."""

from dataclasses import dataclass
from typing import NamedTuple


class Turn(NamedTuple):
    """What one process does at one point of a step.

    Attributes
    ----------
    batch
        Number of the batch in its epoch.
    counts
        False for a process that has nothing left to do in this step, and repeats a batch
        only to be there when gradients are gathered.
    """

    batch: int
    counts: bool


@dataclass(frozen=True)
class Layout:
    """Batches in one global order, whatever the number of processes.

    A step takes the next ``accumulate * num_processes`` batches of the epoch, or those that
    are left. Process r does every ``num_processes``-th of them, from the r-th.

    Parameters
    ----------
    accumulate
        Batches that each process takes in a step.
    num_processes, rank
        How many there are, and which this is.

    Examples
    --------
    >>> from stgraph.training.layout import Layout
    >>> second = Layout(accumulate=2, num_processes=2, rank=1)
    >>> second.num_steps(num_batches=7)
    2
    >>> [list(map(tuple, second.turns(step, num_batches=7))) for step in range(2)]
    [[(1, True), (3, True)], [(5, True), (4, False)]]
    """

    accumulate: int = 1
    num_processes: int = 1
    rank: int = 0

    @property
    def batches_in_step(self) -> int:
        """Batches of a full step, of all processes."""
        return self.accumulate * self.num_processes

    def num_steps(self, num_batches: int) -> int:
        """Steps of an epoch of so many batches; the last may be smaller."""
        return -(-num_batches // self.batches_in_step)

    def num_batches(self, step: int, num_batches: int) -> int:
        """Batches of a step, counted from 0 in an epoch of so many batches."""
        return min(self.batches_in_step, num_batches - step * self.batches_in_step)

    def turns(self, step: int, num_batches: int) -> list[Turn]:
        """What this process does in a step, counted from 0 in its epoch: as many turns as every other process."""
        first = step * self.batches_in_step
        end = first + self.num_batches(step, num_batches)
        mine = range(first + self.rank, first + self.batches_in_step, self.num_processes)
        rounds = -(-(end - first) // self.num_processes)
        return [Turn(batch, True) if batch < end else Turn(first, False) for batch in mine[:rounds]]
