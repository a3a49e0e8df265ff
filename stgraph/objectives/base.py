"""The contract of an objective, and the sum of several."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stgraph.errors import InputError
from stgraph.objectives.balance import Balance, FixedBalance


class Objective(Protocol):
    """Spoils a batch, then judges how well the model mended it.

    Three methods rather than one: several objectives share one forward pass, and what is judged can be counted over
    all batches of a step, wherever they are, before any of them has its loss.

    A batch is whatever the model takes: parts of slices (`torch_geometric.data.HeteroData`) or cells
    (`stgraph.data.cell_batch.CellBatch`).

    Attributes
    ----------
    name
        Name of its loss in logs.
    weight
        Factor of its loss in the sum.
    """

    @property
    def name(self) -> str:
        """A name of its own."""
        ...

    @property
    def weight(self) -> float:
        """Factor in the sum."""
        ...

    def corrupt(self, batch: Any, generator: torch.Generator) -> Any:
        """A spoilt shallow copy of ``batch``, with what is needed to judge it."""
        ...

    def count(self, batch: Any) -> Tensor:
        """How many things the spoilt batch is judged on: masked cells, edges, known truths; () float32, 0 if none."""
        ...

    def loss(self, model: Any, output: Any, batch: Any) -> Tensor:
        """Scalar loss of what the model made of the spoilt batch: the mean over what `count` counts, 0 if nothing."""
        ...


class WeightedSum(nn.Module):
    """Several objectives on one forward pass.

    Called, it corrupts a batch and gives its losses. A trainer whose step has several batches, on one machine or many,
    does the same in three, so that each masked cell counts alike wherever it is::

        batches = [objective.corrupt(batch, generator) for batch in ...]
        counts = [objective.counts(batch) for batch in batches]         # name: ()
        total = ...                                                     # summed by name, over batches and ranks
        for batch, count in zip(batches, counts):
            factors = {name: count[name] / total[name] for name in count}  # 0 where the total is
            objective.losses(model, batch, factors, share=1 / num_batches)["loss"].backward()

    Over all batches these losses and their gradients add up to those of one batch that holds everything.

    Parameters
    ----------
    objectives
        Each with a name of its own. All corrupt the batch, in this order, before the
        model sees it. A balance may stand among them, as it does where a config is a list.
    balance
        How losses become one: `stgraph.objectives.balance.FixedBalance` by default, which multiplies each by the
        ``weight`` of its objective, or `stgraph.objectives.balance.LearnedBalance`, whose parameters become those of
        this module and are to be trained along. The object given is a pattern and stays as it is.

    Examples
    --------
    >>> from stgraph.objectives.base import WeightedSum
    >>> from stgraph.objectives.masked_cell import MaskedCell
    >>> [objective.name for objective in WeightedSum([MaskedCell()]).objectives]
    ['masked_cell']
    """

    def __init__(self, objectives: Sequence[Objective | Balance], balance: Balance | None = None) -> None:
        super().__init__()
        balances = [each for each in (*objectives, balance) if isinstance(each, Balance)]
        if len(balances) > 1:
            raise InputError(f"WeightedSum takes one balance, not {len(balances)}.")
        self.objectives = [each for each in objectives if not isinstance(each, Balance)]
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) < len(names):
            raise InputError(f"WeightedSum needs at least one objective and distinct names, not {names}.")
        self.balance: Balance = copy.deepcopy(balances[0]) if balances else FixedBalance()
        self.balance.set_names(names)

    def forward(self, model: nn.Module, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
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
        return self.losses(model, self.corrupt(batch, generator))

    def corrupt(self, batch: Any, generator: torch.Generator) -> Any:
        """A spoilt shallow copy of a batch.

        Parameters
        ----------
        batch, generator
            As for a call.

        Returns
        -------
        Any
            What the model is to see.
        """
        for objective in self.objectives:
            batch = objective.corrupt(batch, generator)
        return batch

    def counts(self, batch: Any) -> dict[str, Tensor]:
        """How many things a spoilt batch is judged on.

        Parameters
        ----------
        batch
            What `corrupt` gave.

        Returns
        -------
        dict
            By name of the objective, () float32 on the device of the batch.
        """
        return {objective.name: objective.count(batch) for objective in self.objectives}

    def losses(
        self,
        model: nn.Module,
        batch: Any,
        factors: Mapping[str, Tensor | float] | None = None,
        share: float = 1.0,
    ) -> dict[str, Tensor]:
        """Losses of a spoilt batch.

        Parameters
        ----------
        model
            The model in training.
        batch
            What `corrupt` gave.
        factors
            By name, the share of this batch in all things judged in the step; None if it is the step.
        share
            Its share in what a learned balance adds that no batch decides, such as 1 / number of batches in the step.

        Returns
        -------
        dict
            ``"loss"``, the weighted sum, and each loss unweighted by its name, all times their factors.
        """
        output = model(batch)
        losses = {objective.name: objective.loss(model, output, batch) for objective in self.objectives}
        if factors is not None:
            losses = {name: loss * factors[name] for name, loss in losses.items()}
        weights = {objective.name: objective.weight for objective in self.objectives}
        return {"loss": self.balance(losses, weights, share), **losses}
