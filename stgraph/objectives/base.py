"""The contract of an objective, and the sum of several."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.errors import InputError
from stgraph.models.base import CellGraphModel, ModelOutput


class Objective(Protocol):
    """Spoils a batch, then judges how well the model mended it.

    Two methods rather than one, so that several objectives share one forward pass.

    Attributes
    ----------
    name
        Name of its loss in logs.
    weight
        Factor of its loss in the sum.
    """

    name: str
    weight: float

    def corrupt(self, batch: HeteroData, generator: torch.Generator) -> HeteroData:
        """A spoilt shallow copy of ``batch``, with what is needed to judge it."""
        ...

    def loss(self, model: CellGraphModel, output: ModelOutput, batch: HeteroData) -> Tensor:
        """Scalar loss of what the model made of the spoilt batch."""
        ...


class WeightedSum:
    """Several objectives on one forward pass.

    Parameters
    ----------
    objectives
        Each with a name of its own. All corrupt the batch, in this order, before the
        model sees it.

    Examples
    --------
    >>> from stgraph.objectives.base import WeightedSum
    >>> from stgraph.objectives.masked_cell import MaskedCell
    >>> [objective.name for objective in WeightedSum([MaskedCell()]).objectives]
    ['masked_cell']
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        names = [objective.name for objective in objectives]
        if not names or len(set(names)) < len(names):
            raise InputError(f"WeightedSum needs at least one objective and distinct names, not {names}.")
        self.objectives = list(objectives)

    def __call__(self, model: CellGraphModel, batch: HeteroData, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch.

        Parameters
        ----------
        model
            The model in training.
        batch
            Parts of slices.
        generator
            Source of all randomness, on the CPU, so that a seed gives the same
            corruption on every device.

        Returns
        -------
        dict
            ``"loss"``, the weighted sum, and each loss unweighted by its name.
        """
        for objective in self.objectives:
            batch = objective.corrupt(batch, generator)
        output = model(batch)
        losses = {objective.name: objective.loss(model, output, batch) for objective in self.objectives}
        total = sum(objective.weight * losses[objective.name] for objective in self.objectives)
        return {"loss": torch.as_tensor(total), **losses}
