"""Domain adaptation: the network of cells learns the cells at hand, one by one."""

from dataclasses import dataclass, field
from typing import ClassVar, cast

from stgraph.data.cell_sequences import CellSequences
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.graph.arguments import check_whole
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.contrastive import DropoutPairs
from stgraph.objectives.masked_gene import MaskedGene
from stgraph.tasks.stage_plan import Objectives, objective_list
from stgraph.tasks.staged_run import StagedRun, settings_of
from stgraph.training.batches import EpochSampler, SampledBatches
from stgraph.training.loop import Trainer
from stgraph.training.stages import Stage


def _objectives() -> Objectives:
    return [MaskedGene(), DropoutPairs()]


def _published() -> Trainer:
    return Trainer(lr=1e-4, warmup_steps=500, schedule="linear", grad_clip=1.0, accumulate=4)


@dataclass(frozen=True)
class AdaptCells:
    """Trains the network of cells alone, on cells without their surroundings: SToFM's domain adaptation, its stage 1.

    Parameters
    ----------
    objectives
        On `stgraph.data.cell_batch.CellBatch`: masked genes and the contrast of dropout pairs by default.
    trainer
        How; its ``batch_size`` says nothing, for batches are cut by their tokens.
    epochs
        How often every cell is seen; None for the trainer's ``max_steps``.
    max_tokens, max_cells
        Most tokens and cells of a batch.
    num_neighbors
        Neighbours a cell takes along into its batch, for `stgraph.objectives.contrastive.NeighborPairs`; 0 for none.

    Examples
    --------
    >>> from stgraph.tasks.adapt_cells import AdaptCells
    >>> AdaptCells(epochs=2).epochs
    2
    """

    objectives: Objectives = field(default_factory=_objectives)
    trainer: Trainer = field(default_factory=_published)
    epochs: int | None = 1
    max_tokens: int = 16_384
    max_cells: int | None = 256
    num_neighbors: int = 0

    trains_cells: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole(self, "max_tokens")
        check_whole(self, "num_neighbors", least=0)
        for name in ("epochs", "max_cells"):
            if getattr(self, name) is not None:
                check_whole(self, name)

    def stage(self, name: str, run: StagedRun) -> Stage:
        """The stage; see `stgraph.tasks.stage_plan.StagePlan`."""

        def data() -> SampledBatches:
            neighbors = None
            if self.num_neighbors:
                neighbors = [graph.near for graph in run.graphs().values()]
            cells = CellSequences(list(run.tokens().values()), neighbors=neighbors)
            sampler = TokenBudgetSampler(
                cells,
                max_tokens=self.max_tokens,
                max_cells=self.max_cells,
                num_neighbors=self.num_neighbors,
                random_state=self.trainer.random_state,
            )
            return SampledBatches(cells, cast(EpochSampler, sampler))  # its batches are arrays

        around = run.inputs_of_graphs() if self.num_neighbors else run.inputs_of_cells()
        return Stage(
            name=name,
            model=run.cells.network,
            data=data,
            objective=WeightedSum(objective_list(self.objectives)),
            trainer=self.trainer,
            inputs={**settings_of(self), **around},
            epochs=self.epochs,
        )
