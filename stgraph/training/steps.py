"""One step of the optimiser, of several batches on several processes."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from stgraph.objectives.base import WeightedSum
from stgraph.training.batches import Batches, num_cells
from stgraph.training.distributed import summed
from stgraph.training.layout import Layout, Turn
from stgraph.training.noise import Noise
from stgraph.training.optim import clipped


class Step(NamedTuple):
    """What came of a step, over all processes.

    Attributes
    ----------
    losses
        By name.
    num_cells
        Cells in it.
    seconds
        It took, without the time to make batches.
    stop
        Whether any process was asked to stop.
    """

    losses: dict[str, float]
    num_cells: float
    seconds: float
    stop: bool


class Spoilt:
    """A spoilt batch, and what it counts. Of no type that Fabric would look into, and refuse if it is frozen."""

    def __init__(self, batch: Any, factors: dict[str, Tensor] | None = None, share: float = 1.0) -> None:
        self.batch = batch
        self.factors = factors
        self.share = share


class Task(nn.Module):
    """A network and what it is trained to do, as one module.

    So whatever wraps a module to train it (mixed precision, gradients shared by processes)
    sees one call from batch to losses, whichever methods of the network that takes, and
    the parameters of the objective are trained like all others.

    Parameters
    ----------
    network
        The network.
    objective
        Its objective.
    """

    def __init__(self, network: nn.Module, objective: WeightedSum) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, spoilt: Spoilt) -> dict[str, Tensor]:
        """Losses by name, times what the batch counts."""
        return self.objective.losses(self.network, spoilt.batch, spoilt.factors, spoilt.share)


class Steps:
    """Takes steps.

    Parameters
    ----------
    fabric
        This process.
    task, optimizer
        As ``fabric.setup`` gives them; the objective of the task spoils batches.
    objective
        The one in the task.
    batches
        Where they come from.
    layout
        Who does what.
    noise
        Spoils them.
    grad_clip
        Largest norm of the gradient.
    """

    def __init__(
        self,
        fabric: Fabric,
        task: Any,
        optimizer: Any,
        objective: WeightedSum,
        *,
        batches: Batches,
        layout: Layout,
        noise: Noise,
        grad_clip: float,
    ) -> None:
        self.fabric = fabric
        self.task = task
        self.optimizer = optimizer
        self.objective = objective
        self.batches = batches
        self.layout = layout
        self.noise = noise
        self.grad_clip = grad_clip

    def take(self, plan: Sequence[Sequence[int]], epoch: int, position: int, *, stop: bool = False) -> Step:
        """Take a step.

        Parameters
        ----------
        plan
            Indices of all batches of the epoch.
        epoch, position
            Number of the epoch, from 1, and of the step in it, from 0.
        stop
            Whether this process was asked to stop.

        Returns
        -------
        Step
            The same on all processes.
        """
        turns = self.layout.turns(position, len(plan))
        loaded = [self.batches.units(plan[turn.batch]) for turn in turns]
        begin = time.perf_counter()
        spoilt = []
        for turn, units in zip(turns, loaded, strict=True):
            indices = plan[turn.batch]
            spoilt.append(
                Spoilt(self.noise.spoil(self.objective, self.batches, units, indices, epoch, self.fabric.device))
            )
        # Of what was loaded: an objective may have made two views of each cell.
        cells = float(
            sum(num_cells(unit) for units, turn in zip(loaded, turns, strict=True) if turn.counts for unit in units)
        )
        if self.layout.batches_in_step > 1:
            cells, stop = self._weigh(spoilt, turns, self.layout.num_batches(position, len(plan)), cells, stop)
        losses = self._descend(spoilt, turns, epoch)
        return Step(losses, cells, time.perf_counter() - begin, stop)

    def _weigh(
        self, spoilt: list[Spoilt], turns: list[Turn], num_batches: int, cells: float, stop: bool
    ) -> tuple[float, bool]:
        """Tell each batch its share in all that the step is judged on; give all cells, and whether to stop."""
        counts = [self.objective.counts(one.batch) for one in spoilt]
        own = [torch.stack(list(count.values())) * turn.counts for count, turn in zip(counts, turns, strict=True)]
        said = own[0].new_tensor([cells, float(stop)])
        total = summed(self.fabric, torch.cat([torch.stack(own).sum(dim=0), said]))
        for one, turn, count in zip(spoilt, turns, own, strict=True):
            # Where nothing at all is judged there is nothing to share.
            factors = torch.where(total[:-2] > 0, count / total[:-2], 0.0)
            one.factors = dict(zip(counts[0], factors, strict=True))
            one.share = turn.counts / num_batches
        return float(total[-2]), bool(total[-1] > 0)

    def _descend(self, spoilt: list[Spoilt], turns: list[Turn], epoch: int) -> dict[str, float]:
        """Gradients of all batches, one step along them, and the losses."""
        total: dict[str, Tensor] = {}
        for one, turn in zip(spoilt, turns, strict=True):
            self.noise.before_forward(epoch, turn.batch)
            with self._gathering(at=one is spoilt[-1]):
                losses = self.task(one)
                # What processes share is the mean of their gradients.
                self.fabric.backward(losses["loss"] * self.fabric.world_size)
            for name, loss in losses.items():
                total[name] = loss.detach() + total[name] if name in total else loss.detach()
        self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.fabric.world_size > 1:
            total = dict(zip(total, summed(self.fabric, torch.stack(list(total.values()))), strict=True))
        return {name: float(loss) for name, loss in total.items()}

    def _clip(self) -> None:
        chosen = clipped(self.optimizer)
        if chosen is None:
            self.fabric.clip_gradients(self.task, self.optimizer, max_norm=self.grad_clip, error_if_nonfinite=False)
        else:
            # As Fabric does, which knows no other than all.
            self.fabric.strategy.precision.unscale_gradients(getattr(self.optimizer, "optimizer", self.optimizer))
            nn.utils.clip_grad_norm_(chosen, max_norm=self.grad_clip)

    def _gathering(self, *, at: bool) -> AbstractContextManager[Any]:
        """Gradients of all processes are gathered once a step, at its last batch."""
        if self.fabric.world_size == 1:
            return nullcontext()
        waiting: AbstractContextManager[Any] = self.fabric.no_backward_sync(self.task, enabled=not at)
        return waiting
