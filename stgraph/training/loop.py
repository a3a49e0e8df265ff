"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from lightning.fabric import Fabric
from torch.utils.data import Dataset
from torch_geometric.data import HeteroData
from torch_geometric.loader import DataLoader

from stgraph.errors import InputError, TrainingError
from stgraph.models.base import CellGraphModel
from stgraph.objectives.base import WeightedSum
from stgraph.training.optim import warmup_cosine

Record = dict[str, float]
"""One step: step, epoch, every loss by name, learning rate, cells_per_second."""


@dataclass(frozen=True)
class Trainer:
    """How to train: everything but the model, the data and the objective.

    Parameters
    ----------
    max_steps
        Optimiser steps.
    batch_size
        Parts in a step.
    lr
        Largest learning rate; reached after ``warmup_steps``, then down to zero along a
        cosine.
    warmup_steps
        Steps from zero to ``lr``.
    weight_decay
        Of AdamW, on matrices only.
    grad_clip
        Largest norm of the gradient.
    precision
        As Lightning Fabric names it: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"``.
    accelerator
        ``"auto"``, ``"cpu"`` or ``"gpu"``.
    random_state
        Seed of the order of the parts and of all corruption.
    """

    max_steps: int = 250
    batch_size: int = 1
    lr: float = 3e-3
    warmup_steps: int = 20
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    random_state: int = 0

    def __post_init__(self) -> None:
        if self.max_steps < 1 or self.batch_size < 1:
            raise InputError("Trainer needs max_steps and batch_size of at least 1.")
        if self.lr <= 0 or self.grad_clip <= 0 or self.warmup_steps < 0 or self.weight_decay < 0:
            raise InputError("Trainer needs positive lr and grad_clip, and warmup_steps and weight_decay not negative.")

    def fit(
        self,
        model: CellGraphModel,
        dataset: Dataset[HeteroData],
        objective: WeightedSum,
        *,
        on_step: Callable[[Record], None] | None = None,
    ) -> list[Record]:
        """Train ``model`` in place.

        Parameters
        ----------
        model
            A `stgraph.models.base.CellGraphModel`. It comes back on the CPU, in eval mode.
        dataset
            Parts of slices.
        objective
            What to minimise.
        on_step
            Called with each record as it is made, for progress bars and logs.

        Returns
        -------
        list of dict
            One record for each step.

        Raises
        ------
        TrainingError
            If the loss stops being finite; the message names the step and what to try.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            try:
                fabric = Fabric(accelerator=self.accelerator, devices=1, precision=self.precision)
            except (RuntimeError, ValueError) as error:
                raise InputError(
                    f"This machine cannot train with accelerator '{self.accelerator}' (--device) and precision "
                    f"'{self.precision}': {error}"
                ) from error
            with _deterministic(on=fabric.device.type == "cuda"):
                return self._run(fabric, model, dataset, objective, on_step)

    def _run(
        self,
        fabric: Fabric,
        model: CellGraphModel,
        dataset: Dataset[HeteroData],
        objective: WeightedSum,
        on_step: Callable[[Record], None] | None,
    ) -> list[Record]:
        order = torch.Generator().manual_seed(self.random_state)
        noise = torch.Generator().manual_seed(self.random_state + 1)
        loader = DataLoader(dataset, batch_size=self.batch_size, shuffle=True, generator=order)
        decayed = [p for p in model.parameters() if p.ndim >= 2]
        plain = [p for p in model.parameters() if p.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        wrapped, optimizer = fabric.setup(model, torch.optim.AdamW(groups, lr=self.lr))
        for method in ("predict_cells", "predict_distances"):
            wrapped.mark_forward_method(method)
        wrapped.train()

        history: list[Record] = []
        step, epoch = 0, 0
        while step < self.max_steps:
            epoch += 1
            for batch in loader:
                begin = time.perf_counter()
                for group in optimizer.param_groups:
                    group["lr"] = self.lr * warmup_cosine(step, self.warmup_steps, self.max_steps)
                losses = objective(wrapped, batch.to(fabric.device), noise)
                fabric.backward(losses["loss"])
                fabric.clip_gradients(wrapped, optimizer, max_norm=self.grad_clip, error_if_nonfinite=False)
                optimizer.step()
                optimizer.zero_grad()
                step += 1
                record: Record = {"step": step, "epoch": epoch}
                record |= {name: float(loss.detach()) for name, loss in losses.items()}
                record["lr"] = optimizer.param_groups[0]["lr"]
                record["cells_per_second"] = int(batch["cell"].owned.sum()) / (time.perf_counter() - begin)
                _check_finite(record)
                history.append(record)
                if on_step is not None:
                    on_step(record)
                if step == self.max_steps:
                    break
        model.to("cpu").eval()
        return history


@contextmanager
def _deterministic(*, on: bool) -> Iterator[None]:
    """Ask for sums in a fixed order; on the CPU the operations in use have one anyway."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if on:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def _check_finite(record: Record) -> None:
    for name, value in record.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss '{name}' is {value} at step {int(record['step'])}: try a smaller trainer.lr, "
                "trainer.precision=32-true, or look for outliers in the counts."
            )
