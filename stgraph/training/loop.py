"""The training loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import Dataset
from torch_geometric.data import HeteroData

from stgraph._config import to_config
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.objectives.base import WeightedSum
from stgraph.training.batches import Batches, PartBatches
from stgraph.training.distributed import Precision, Strategy, make_fabric, resolved
from stgraph.training.fingerprint import Fingerprint, data_print, module_print
from stgraph.training.interruption import Interruption, interruptions
from stgraph.training.layout import Layout
from stgraph.training.noise import Noise, StreamNoise, UnitNoise
from stgraph.training.optim import Schedule, adamw, set_lr, share_of_lr
from stgraph.training.records import Record, check_finite
from stgraph.training.resume import Keeper
from stgraph.training.run_state import RunState
from stgraph.training.steps import Steps, Task

__all__ = ["Record", "Trainer"]


@dataclass(frozen=True)
class Trainer:
    """How to train: everything but the model, the data and the objective.

    A step takes ``accumulate * devices * num_nodes`` batches. Each thing that an objective
    judges counts alike in it, wherever it is computed, so that so many batches of
    ``batch_size`` parts do what one large batch does, but for the rounding of sums (and for
    dropout and objectives that compare what is in a batch).

    Parameters
    ----------
    max_steps
        Optimiser steps.
    batch_size
        Parts in a batch.
    lr
        Largest learning rate; reached after ``warmup_steps``, then down to zero as
        ``schedule`` says.
    warmup_steps
        Steps from zero to ``lr``.
    weight_decay
        Of AdamW, on matrices and tables of embeddings only.
    grad_clip
        Largest norm of the gradient, without that of learned weights of losses; infinite for any.
    precision
        As Lightning Fabric names it: ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"``; or
        ``"auto"``, which is ``"bf16-mixed"`` on a GPU that knows it, else ``"32-true"``.
    accelerator
        ``"auto"``, ``"cpu"`` or ``"gpu"``.
    random_state
        Seed of the order of the parts and of all corruption.
    schedule
        The way down: ``"cosine"`` or ``"linear"``.
    accumulate
        Batches in a step of each process, one after another.
    devices, num_nodes
        Processes of a machine, and machines, which torchrun starts.
    strategy
        What several processes do: ``"auto"``, or ``"ddp"``, a little faster, for models
        whose every parameter each batch needs.
    noise
        ``"parts"`` draws the corruption of each part from its number, the epoch and the
        seed, so that it is the same on any number of processes. ``"auto"`` does so if a
        step has several batches; else all of training takes from one stream of numbers.
    checkpoint_every
        Steps from one resume point to the next, where there is a folder for them.
    betas
        Of AdamW: how much of the mean of gradients, and of their squares, is kept from step to step.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.parts import PartDataset
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> from stgraph.objectives.base import WeightedSum
    >>> from stgraph.objectives.masked_cell import MaskedCell
    >>> from stgraph.partition.spatial import CoordinateBisection
    >>> from stgraph.training.loop import Trainer
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> parts, model = PartDataset([graph], CoordinateBisection(60)), SE2Transformer(20, hidden_channels=8)
    >>> trainer = Trainer(max_steps=3, accumulate=2, schedule="linear")
    >>> [(record["step"], record["epoch"]) for record in trainer.fit(model, parts, WeightedSum([MaskedCell()]))]
    [(1, 1), (2, 1), (3, 2)]
    """

    max_steps: int = 250
    batch_size: int = 1
    lr: float = 3e-3
    warmup_steps: int = 20
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    precision: Precision = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    random_state: int = 0
    schedule: Schedule = "cosine"
    accumulate: int = 1
    devices: int = 1
    num_nodes: int = 1
    strategy: Strategy = "auto"
    noise: Literal["auto", "parts"] = "auto"
    checkpoint_every: int = 100
    betas: Sequence[float] = (0.9, 0.999)

    _choices: ClassVar = {"schedule": ("cosine", "linear"), "strategy": ("auto", "ddp"), "noise": ("auto", "parts")}

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "accumulate", "devices", "num_nodes", "checkpoint_every"):
            check_whole(self, name)
        if self.lr <= 0 or self.grad_clip <= 0 or self.warmup_steps < 0 or self.weight_decay < 0:
            raise InputError("Trainer needs positive lr and grad_clip, and warmup_steps and weight_decay not negative.")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"Trainer needs two betas, each from 0 to below 1, not {self.betas!r}.")
        object.__setattr__(self, "betas", (self.betas[0], self.betas[1]))  # of a config, a list
        for name, choices in self._choices.items():
            if getattr(self, name) not in choices:
                raise InputError(f"Trainer's {name} must be one of {choices}, not {getattr(self, name)!r}.")

    def fit(
        self,
        model: nn.Module,
        dataset: Dataset[HeteroData] | Batches,
        objective: WeightedSum,
        *,
        on_step: Callable[[Record], None] | None = None,
        until: Callable[[Record], bool] | None = None,
        resume: Path | None = None,
    ) -> list[Record]:
        """Train ``model`` in place.

        Parameters
        ----------
        model
            Whatever the objective can train, such as a `stgraph.models.base.CellGraphModel`.
            It comes back on the CPU, in eval mode.
        dataset
            Parts of slices, or where batches come from (`stgraph.training.batches`), which
            then decides what is in a batch.
        objective
            What to minimise. Parameters of its own are trained along.
        on_step
            Called with each record as it is made, for progress bars and logs; where several
            processes train, in the first only.
        until
            Called with each record; training ends where it says true. Where several
            processes train it must say the same in all.
        resume
            Folder in which the state of the run is kept: every ``checkpoint_every`` steps,
            at the end, and when Ctrl-C or SIGTERM ends it, which then happens after the
            step. If the state of this run is there, training goes on from it, and ends with
            the numbers it would have had without a break; a run that has ended is not
            repeated. All processes must see the folder. With None nothing is kept. Transforms of
            `stgraph.data.transforms` go on where they were; what else draws random numbers of its own
            does not.

        Returns
        -------
        list of dict
            One record for each step, with those before a break.

        Raises
        ------
        TrainingError
            If the loss stops being finite; the message names the step and what to try.
        InputError
            If there is nothing to train on, the machine cannot do what is asked, or
            ``resume`` has the state of a run with other settings, model or data.
        CheckpointError
            If the state in ``resume`` is damaged.
        """
        batches = self._batches(dataset)
        keeper = None if resume is None else Keeper(resume, self._print(model, batches, objective), batches)
        with torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            fabric = make_fabric(
                accelerator=self.accelerator,
                devices=self.devices,
                num_nodes=self.num_nodes,
                strategy=self.strategy,
                precision=resolved(self.precision, self.accelerator),
            )
            with _deterministic(on=fabric.device.type == "cuda"), interruptions(caught=keeper is not None) as asked:
                history = self._run(fabric, model, batches, objective, on_step, until, keeper, asked)
        objective.to("cpu")
        model.to("cpu").eval()
        return history

    def steps_in(self, dataset: Dataset[HeteroData] | Batches) -> int:
        """Optimiser steps of the first epoch; where a sampler decides, others may have a few more or fewer."""
        return self._layout().num_steps(len(self._batches(dataset).epoch(1)))

    def _batches(self, dataset: Any) -> Batches:
        return dataset if isinstance(dataset, Batches) else PartBatches(dataset, self.batch_size, self.random_state)

    def _layout(self, rank: int = 0) -> Layout:
        return Layout(self.accumulate, self.devices * self.num_nodes, rank)

    def _noise(self) -> Noise:
        alone = self.noise == "auto" and self._layout().batches_in_step == 1
        return StreamNoise(self.random_state) if alone else UnitNoise(self.random_state)

    def _print(self, model: nn.Module, batches: Batches, objective: WeightedSum) -> Fingerprint:
        """What makes this run another than others; where it is computed and how often it is kept do not."""
        settings = {field.name: to_config(getattr(self, field.name)) for field in fields(self)}
        for how in ("accelerator", "strategy", "checkpoint_every"):
            del settings[how]
        settings["precision"] = resolved(self.precision, self.accelerator)
        return {
            "trainer": settings,
            "objective": module_print(objective),
            "model": module_print(model),
            "data": data_print(batches),
        }

    def _run(
        self,
        fabric: Fabric,
        model: nn.Module,
        batches: Batches,
        objective: WeightedSum,
        on_step: Callable[[Record], None] | None,
        until: Callable[[Record], bool] | None,
        keeper: Keeper | None,
        asked: Interruption,
    ) -> list[Record]:
        whole, noise, layout = Task(model, objective), self._noise(), self._layout(fabric.global_rank)
        raw = adamw(whole, lr=self.lr, weight_decay=self.weight_decay, betas=(self.betas[0], self.betas[1]))
        task, optimizer = fabric.setup(whole, raw)
        task.train()
        state = RunState() if keeper is None else keeper.begin(fabric, whole, raw, noise)
        steps = Steps(
            fabric,
            task,
            optimizer,
            objective,
            batches=batches,
            layout=layout,
            noise=noise,
            grad_clip=self.grad_clip,
        )
        while not state.done:
            plan = batches.epoch(state.epoch)
            while state.position < layout.num_steps(len(plan)) and not state.done:
                share = share_of_lr(self.schedule, len(state.history), self.warmup_steps, self.max_steps)
                lr = set_lr(optimizer, self.lr, share)
                step = steps.take(plan, state.epoch, state.position, stop=asked.asked)
                record: Record = {"step": len(state.history) + 1, "epoch": state.epoch, **step.losses}
                record |= {"lr": lr, "cells_per_second": step.num_cells / step.seconds}
                check_finite(record)
                state.history.append(record)
                state.position += 1
                if on_step is not None and fabric.is_global_zero:
                    on_step(record)
                enough = until is not None and until(record)
                state.done = enough or len(state.history) == self.max_steps
                # One process alone need not ask the others.
                stop = step.stop if fabric.world_size > 1 else asked.asked
                if keeper is not None and (stop or state.done or len(state.history) % self.checkpoint_every == 0):
                    keeper.keep(state)
                if stop:
                    asked.asked = True
                    return state.history
            state.epoch, state.position = state.epoch + 1, 0
        return state.history


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
