"""Domain adaptation: the network of cells learns the cells at hand, one by one."""

from dataclasses import dataclass, field
from typing import ClassVar, cast

from stgraph.data.cell_sequences import CellSequences
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.graph.arguments import check_whole
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.cell_is_read import check_cell_is_read
from stgraph.objectives.contrastive import DropoutPairs
from stgraph.objectives.genes_from_cell import GenesFromCell
from stgraph.tasks.collapse import warn_of_collapse
from stgraph.tasks.embed_cells import scale_features
from stgraph.tasks.stage_plan import Objectives, objective_list
from stgraph.tasks.staged_run import StagedRun, settings_of
from stgraph.training.batches import EpochSampler, SampledBatches
from stgraph.training.loop import Trainer
from stgraph.training.stages import Stage


def _objectives() -> Objectives:
    return [DropoutPairs(weight=0.1), GenesFromCell()]


def _published() -> Trainer:
    return Trainer(lr=1e-4, warmup_steps=500, schedule="linear", grad_clip=1.0, accumulate=4)


@dataclass(frozen=True)
class AdaptCells:
    """Trains the network of cells alone, on cells without their surroundings: SToFM's domain adaptation, its stage 1.

    Afterwards its features are centred and scaled anew (`stgraph.tasks.embed_cells.scale_features`); where the class
    token stands for the cell, as with published weights, they stay embeddings of length 1.

    What it gives a drawn network of 64 channels and 2 layers, by a linear classifier of cell types on cells alone (one
    half of a slice to the other, macro F1, one seed, ``lr=3e-3``): of synthetic tissue .50 as drawn, .90 after 150
    steps (`stgraph.preprocess.encoder.LogPCA` of 20 components: .85, of 50: .93); of osmFISH .15 and .50 after 300, no
    more after 900 (.54, .68); of STARmap .19 and .42 after 200 (.68, .67). With masked genes in place of genes taken
    out, .61 of synthetic tissue; without the contrast, .66; with ``lr=1e-3``, .64. So one slice does not make a network
    better than its principal components: begin with published weights, or train on many.

    Parameters
    ----------
    objectives
        On `stgraph.data.cell_batch.CellBatch`: the contrast of two views that lack different genes, and these told from
        the embedding, by default. In their order: what doubles cells first, what takes tokens out next, what hides
        tokens last. At least one reads the embedding of the cell, or nothing would train it.
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
        check_cell_is_read(objective_list(self.objectives), "AdaptCells")
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

        def scale() -> None:
            tokens = list(run.tokens().values())
            unit = scale_features(run.cells.network, tokens, max_tokens=self.max_tokens)
            # Of embeddings of length 1, for features that are centred and scaled always look different.
            warn_of_collapse(unit, f"Embeddings of cells after '{name}'")

        around = run.inputs_of_graphs() if self.num_neighbors else run.inputs_of_cells()
        return Stage(
            name=name,
            model=run.cells.network,
            data=data,
            objective=WeightedSum(objective_list(self.objectives)),
            trainer=self.trainer,
            inputs={**settings_of(self), **around},
            epochs=self.epochs,
            finish=scale,
        )
