"""The graph model learns tissue, on features of cells that stay as they are."""

from dataclasses import dataclass, field

from torch import nn

from stgraph.data.box import SliceBox
from stgraph.data.parts import PartDataset
from stgraph.graph.arguments import check_whole
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.tasks.stage_plan import Objectives, objective_list
from stgraph.tasks.staged_run import NetworkEncoder, StagedRun, settings_of
from stgraph.training.loop import Trainer
from stgraph.training.stages import Stage


def _objectives() -> Objectives:
    return [MaskedCell(), DistanceRecovery()]


def _published() -> Trainer:
    return Trainer(lr=1e-4, warmup_steps=500, schedule="linear", grad_clip=1.0, batch_size=16, accumulate=4)


@dataclass(frozen=True)
class TrainGraphs:
    """Trains the graph model on parts of slices, with the encoder of cells frozen: SToFM's stage 2.

    Features are computed once, by the encoder as the stage before left it, and kept (`FeatureCache`).

    Parameters
    ----------
    objectives
        On parts: masked cells and distance recovery by default.
    trainer
        How; ``batch_size`` counts parts.
    epochs
        How often every part is seen; None for the trainer's ``max_steps``.

    Examples
    --------
    >>> from stgraph.tasks.train_graphs import TrainGraphs
    >>> TrainGraphs().epochs
    2
    """

    objectives: Objectives = field(default_factory=_objectives)
    trainer: Trainer = field(default_factory=_published)
    epochs: int | None = 2

    def __post_init__(self) -> None:
        if self.epochs is not None:
            check_whole(self, "epochs")

    def stage(self, name: str, run: StagedRun) -> Stage:
        """The stage; see `stgraph.tasks.stage_plan.StagePlan`."""

        def data() -> PartDataset:
            graphs = run.graphs()
            return PartDataset(graphs.values(), run.partitioner, num_hops=run.hops, transform=SliceBox(graphs.values()))

        frozen: tuple[nn.Module, ...] = (run.encoder.network,) if isinstance(run.encoder, NetworkEncoder) else ()
        return Stage(
            name=name,
            model=run.model,
            data=data,
            objective=WeightedSum(objective_list(self.objectives)),
            trainer=self.trainer,
            inputs={**settings_of(self), **run.inputs_of_graphs()},
            epochs=self.epochs,
            frozen=frozen,
        )
