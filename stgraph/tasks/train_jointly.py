"""The network of cells and the graph model learn together, from tokens."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch_geometric.data import HeteroData

from stgraph.data.box import SliceBox
from stgraph.data.cell_tokens import CellTokens
from stgraph.data.parts import PartDataset
from stgraph.graph.arguments import check_whole
from stgraph.models.joint_model import JointModel, Target
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.tasks.stage_plan import Objectives, objective_list
from stgraph.tasks.staged_run import StagedRun, settings_of
from stgraph.training.loop import Trainer
from stgraph.training.stages import Stage


def _objectives() -> Objectives:
    return [MaskedCell(), DistanceRecovery()]


def _published() -> Trainer:
    return Trainer(lr=1e-4, warmup_steps=500, schedule="linear", grad_clip=1.0, batch_size=16, accumulate=4)


@dataclass(frozen=True)
class TrainJointly:
    """Trains the network of cells within the graph model: SToFM's stage 3, one epoch.

    Virtual cells are those of the encoder as the stage before left it.

    Parameters
    ----------
    objectives
        On parts: masked cells and distance recovery by default.
    trainer
        How; ``batch_size`` counts parts, all cells of which are encoded.
    epochs
        How often every part is seen; None for the trainer's ``max_steps``.
    target, tokens_at_once
        As of `stgraph.models.joint_model.JointModel`.

    Examples
    --------
    >>> from stgraph.tasks.train_jointly import TrainJointly
    >>> TrainJointly().target
    'current'
    """

    objectives: Objectives = field(default_factory=_objectives)
    trainer: Trainer = field(default_factory=_published)
    epochs: int | None = 1
    target: Target = "current"
    tokens_at_once: int | None = 65_536

    trains_cells: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("epochs", "tokens_at_once"):
            if getattr(self, name) is not None:
                check_whole(self, name)

    def stage(self, name: str, run: StagedRun) -> Stage:
        """The stage; see `stgraph.tasks.stage_plan.StagePlan`."""

        def data() -> PartDataset:
            graphs = run.graphs()
            box, tokens = SliceBox(graphs.values()), CellTokens(run.tokens())

            def transform(part: HeteroData) -> HeteroData:
                return tokens(box(part))

            return PartDataset(graphs.values(), run.partitioner, num_hops=run.hops, transform=transform)

        return Stage(
            name=name,
            model=JointModel(run.cells.network, run.model, self.target, self.tokens_at_once),
            data=data,
            objective=WeightedSum(objective_list(self.objectives)),
            trainer=self.trainer,
            inputs={**settings_of(self), **run.inputs_of_graphs()},
            epochs=self.epochs,
        )
