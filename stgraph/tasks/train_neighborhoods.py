"""The network that reads cells with their neighbours learns the tissue at hand: AIDO.Tissue's pretraining."""

from dataclasses import dataclass, field
from typing import ClassVar

from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.masked_columns import MaskedColumns
from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
from stgraph.tasks.stage_plan import Objectives, objective_list
from stgraph.tasks.staged_run import StagedRun, settings_of
from stgraph.training.batches import SampledBatches
from stgraph.training.loop import Trainer
from stgraph.training.stages import Stage


def _objectives() -> Objectives:
    return [MaskedColumns()]


def _published() -> Trainer:
    return Trainer(max_steps=150_000, lr=2e-4, warmup_steps=2000, betas=(0.9, 0.95), weight_decay=0.01, grad_clip=1.0)


@dataclass(frozen=True)
class TrainNeighborhoods:
    """Trains the network of a `stgraph.tasks.neighborhood_encoder.NeighborhoodEncoder` on all cells of the slices.

    Parameters
    ----------
    objectives
        On `stgraph.data.neighborhood_batch.NeighborhoodBatch`: masked columns by default.
    trainer
        How: 150,000 steps by default, as published; the length of its warm-up is not. Its ``batch_size`` says
        nothing: the encoder has ``max_cells`` and ``max_tokens`` of a batch.
    epochs
        How often every cell is the centre; None for the trainer's ``max_steps``.

    Examples
    --------
    >>> from stgraph.tasks.train_neighborhoods import TrainNeighborhoods
    >>> TrainNeighborhoods().trainer.max_steps
    150000
    """

    objectives: Objectives = field(default_factory=_objectives)
    trainer: Trainer = field(default_factory=_published)
    epochs: int | None = None

    trains_cells: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.epochs is not None:
            check_whole(self, "epochs")

    def stage(self, name: str, run: StagedRun) -> Stage:
        """The stage; see `stgraph.tasks.stage_plan.StagePlan`.

        Raises
        ------
        InputError
            If the encoder of the run reads no neighbourhoods.
        """
        encoder = run.encoder
        if not isinstance(encoder, NeighborhoodEncoder):
            raise InputError(
                f"{type(encoder).__name__} reads no neighbourhoods, so that there is nothing for the stage '{name}' to "
                "train: choose encoder=aido_tissue, or leave the stage out (stages.NAME=null)."
            )

        def data() -> SampledBatches:
            return encoder.batches(list(run.slices.values()), random_state=self.trainer.random_state)

        return Stage(
            name=name,
            model=encoder.network,
            data=data,
            objective=WeightedSum(objective_list(self.objectives)),
            trainer=self.trainer,
            inputs={**settings_of(self), **run.inputs_of_cells()},
            epochs=self.epochs,
        )
