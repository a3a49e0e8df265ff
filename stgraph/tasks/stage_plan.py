"""The contract of a stage of training, as a config can name it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from stgraph.objectives.balance import Balance
from stgraph.objectives.base import Objective
from stgraph.tasks.staged_run import StagedRun
from stgraph.training.stages import Stage

Objectives = Sequence[Objective | Balance] | Mapping[str, Objective | Balance | None]
"""Some objectives, and perhaps a balance of theirs; in a config by name, so that one setting of one can be changed, or
one be left out by None."""


class StagePlan(Protocol):
    """What a stage will train, once its run is there.

    A stage of your own is a small frozen dataclass with this method, named in ``stages`` of a config by its import
    path.
    """

    def stage(self, name: str, run: StagedRun) -> Stage:
        """The stage, of that name, in a run.

        Parameters
        ----------
        name
            Its name in the config.
        run
            What the stages share. What was trained before has its weights already.

        Returns
        -------
        Stage
            With ``inputs`` that hold all that decides what it trains.
        """
        ...


def objective_list(objectives: Objectives) -> list[Objective | Balance]:
    """Objectives, as `stgraph.objectives.base.WeightedSum` takes them, without the names they have in a config."""
    named = objectives.values() if isinstance(objectives, Mapping) else objectives
    return [objective for objective in named if objective is not None]
