"""Training that a judge watches: it ends when nothing is gained, and the best weights are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_geometric.data import HeteroData

from stgraph.errors import TrainingError
from stgraph.graph.arguments import check_whole
from stgraph.objectives.base import WeightedSum
from stgraph.training.batches import Batches
from stgraph.training.loop import Record, Trainer


@dataclass
class WatchedRun:
    """What `JudgedTrainer` gives.

    Attributes
    ----------
    history
        One record for each step, as `Trainer` gives them.
    judged
        By step, what the judge said, lower being better; empty without a judge.
    best_step
        The step whose weights the model has now; 0 if none was better than none.
    """

    history: list[Record] = field(default_factory=list)
    judged: dict[int, float] = field(default_factory=dict)
    best_step: int = 0


@dataclass(frozen=True)
class JudgedTrainer:
    """A `stgraph.training.loop.Trainer` whose model is judged after each epoch.

    Parameters
    ----------
    trainer
        How to train.
    patience
        Epochs in a row without gain after which training ends.

    Examples
    --------
    >>> from stgraph.training.batches import Batches
    >>> from stgraph.training.loop import Trainer
    >>> from stgraph.training.supervised import JudgedTrainer
    >>> JudgedTrainer(Trainer(max_steps=100), patience=5).patience
    5
    """

    trainer: Trainer
    patience: int = 10

    def __post_init__(self) -> None:
        check_whole(self, "patience")

    def fit(
        self,
        model: nn.Module,
        dataset: Dataset[HeteroData] | Batches,
        objective: WeightedSum,
        *,
        judge: Callable[[], float] | None,
        on_step: Callable[[Record], None] | None = None,
    ) -> WatchedRun:
        """Train ``model`` in place, and leave it with the weights the judge liked best.

        Parameters
        ----------
        model, dataset, objective, on_step
            As in `stgraph.training.loop.Trainer.fit`.
        judge
            Says how bad the model is now, in eval mode and on the device it is trained on,
            before the first step and after each epoch; the earliest of equals is kept.
            Without one the last weights are.

        Returns
        -------
        WatchedRun
            The record of the run.

        Raises
        ------
        TrainingError
            If the loss, or what the judge says, stops being finite.
        """
        epoch = self.trainer.steps_in(dataset)
        run, best = WatchedRun(), _Best(model)
        if judge is not None:
            model.eval()
            run.judged[0] = best.consider(judge(), 0)

        def enough(record: Record) -> bool:
            step = int(record["step"])
            if judge is None or (step % epoch != 0 and step != self.trainer.max_steps):
                return False
            model.eval()
            run.judged[step] = best.consider(judge(), step)
            model.train()
            return step - best.step >= self.patience * epoch

        run.history = self.trainer.fit(model, dataset, objective, on_step=on_step, until=enough)
        run.best_step = len(run.history)
        if judge is not None:
            model.load_state_dict(best.weights)
            run.best_step = best.step
        return run


class _Best:
    """The best weights so far."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.loss, self.step = float("inf"), 0
        self.weights: dict[str, Tensor] = {}

    def consider(self, loss: float, step: int) -> float:
        """Keep the weights of the model if they are better than those before."""
        if not torch.isfinite(torch.tensor(loss)):
            raise TrainingError(f"The validation loss is {loss} after step {step}: try a smaller trainer.lr.")
        if loss < self.loss:
            self.loss, self.step = loss, step
            self.weights = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        return loss
