"""Contrast: embeddings of what belongs together are nearer than those of other cells in the batch."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive
from stgraph.models.cell_network import CellStates


@dataclass(frozen=True)
class DropoutPairs:
    """InfoNCE of two views of each cell, which differ by dropout (SimCSE).

    ``corrupt`` puts every cell into the batch twice, so that one forward pass gives both views: other objectives share
    it, and gradients of several processes are summed once. The tokens of a batch double; give half the budget. A batch
    that has its cells twice already is left as it is.

    For each view the other one is to be found among it and both views of all other cells. Nothing is drawn from the
    generator: views differ by the noise of the network, and by what objectives after this one spoil.

    Parameters
    ----------
    temperature
        Cosines are divided by it; the smaller, the more the nearest other cells count.
    weight
        Factor in the sum of losses.

    References
    ----------
    Gao, Yao and Chen, SimCSE: simple contrastive learning of sentence embeddings (2021).

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.objectives.contrastive import DropoutPairs
    >>> cells = CellBatch(torch.tensor([9, 2, 3, 9, 4]), torch.tensor([0, 3, 5]), torch.tensor([10, 11]))
    >>> DropoutPairs().corrupt(cells, torch.Generator()).cell.tolist()
    [10, 11, 10, 11]
    """

    temperature: float = 0.05
    weight: float = 1.0

    name: ClassVar[str] = "dropout_pairs"

    def __post_init__(self) -> None:
        check_positive(self, "temperature")

    def corrupt(self, batch: CellBatch, generator: torch.Generator) -> CellBatch:
        """Every cell twice."""
        return batch if len(_views(batch)) else batch.doubled()

    def count(self, batch: CellBatch) -> Tensor:
        """How many views look for another: all, if there are at least two cells."""
        return batch.tokens.new_tensor(len(_judged(_views(batch), _one_cell(batch))), dtype=torch.float32)

    def loss(self, model: Any, output: CellStates, batch: CellBatch) -> Tensor:
        """InfoNCE, mean over views.

        Raises
        ------
        InputError
            If two views are the same in training, for then there is nothing to be learnt.
        """
        views = _views(batch)
        first, second = (output.cell.detach().index_select(0, side) for side in views.T)
        if getattr(model, "training", False) and len(views) and torch.equal(first, second):
            raise InputError(
                "DropoutPairs compares two views of a cell, but they are the same: give the model a dropout."
            )
        return info_nce(output.cell, views, _one_cell(batch), self.temperature)


@dataclass(frozen=True)
class NeighborPairs:
    """InfoNCE of cells that are neighbours in the tissue.

    Batches must know who is whose neighbour (``neighbors`` of `stgraph.data.cell_sequences.CellSequences`), and hold
    neighbours (``num_neighbors`` of `stgraph.data.token_budget.TokenBudgetSampler`). Each neighbour of a cell is to be
    found among it and the cells of the batch that are no neighbours of the cell; nor are its own views among those.

    This makes neighbours alike whatever they are, so that what the embedding says of the tissue it says less of the
    cell: mix it in with a small weight, and look at both.

    Parameters
    ----------
    temperature
        As for `DropoutPairs`.
    weight
        Factor in the sum of losses.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.objectives.contrastive import NeighborPairs
    >>> partner = torch.tensor([[0, 2], [2, 0]])
    >>> cells = CellBatch(torch.ones(3).long(), torch.arange(4), torch.arange(3), partner=partner)
    >>> NeighborPairs().count(cells)
    tensor(2.)
    """

    temperature: float = 0.1
    weight: float = 0.1

    name: ClassVar[str] = "neighbor_pairs"

    def __post_init__(self) -> None:
        check_positive(self, "temperature")

    def corrupt(self, batch: CellBatch, generator: torch.Generator) -> CellBatch:
        """Leave the batch as it is.

        Raises
        ------
        InputError
            If the batch does not know who is whose neighbour.
        """
        if batch.partner is None:
            raise InputError("NeighborPairs needs to know who is whose neighbour: give CellSequences neighbors.")
        return batch

    def count(self, batch: CellBatch) -> Tensor:
        """How many pairs of neighbours are in the batch, each in both directions."""
        pairs, alike = _neighbors(batch)
        return batch.tokens.new_tensor(len(_judged(pairs, alike)), dtype=torch.float32)

    def loss(self, model: Any, output: CellStates, batch: CellBatch) -> Tensor:
        """InfoNCE, mean over pairs."""
        return info_nce(output.cell, *_neighbors(batch), self.temperature)


def info_nce(embeddings: Tensor, pairs: Tensor, alike: Tensor, temperature: float) -> Tensor:
    """How well the second of a pair is told from what is not like the first.

    Parameters
    ----------
    embeddings
        (S, C); their length does not matter.
    pairs
        (P, 2) int64, rows that belong together.
    alike
        (S, S) bool, true where a row is no counterexample to another: itself, and all that belong together with it.
    temperature
        Cosines are divided by it.

    Returns
    -------
    Tensor
        Mean over the pairs of ``-log(e^p / (e^p + sum of e^n))``, where p is the similarity of the pair and n are those
        of the first of it to its counterexamples. Pairs without any do not count; 0 if there are no others.

    References
    ----------
    van den Oord, Li and Vinyals, Representation learning with contrastive predictive coding (2018).

    Examples
    --------
    >>> import torch
    >>> from stgraph.objectives.contrastive import info_nce
    >>> same = torch.ones(3, 8)  # all alike: a guess among the right one and one other
    >>> info_nce(same, torch.tensor([[0, 1]]), torch.tensor([[True, True, False]]).expand(3, 3), 0.05)
    tensor(0.6931)
    """
    z = F.normalize(embeddings.float(), dim=1)
    pairs = _judged(pairs, alike)
    if len(pairs) == 0:
        return embeddings.sum() * 0.0
    similar = z @ z.T / temperature
    first, second = pairs.T
    # Rows of pairs only: the logsumexp of a row without counterexamples has no gradient.
    others = similar.index_select(0, first).masked_fill(alike.index_select(0, first), -torch.inf).logsumexp(1)
    return F.softplus(others - similar[first, second]).mean()


def _judged(pairs: Tensor, alike: Tensor) -> Tensor:
    """Pairs whose first has a counterexample."""
    return pairs[~alike.all(dim=1)[pairs[:, 0]]]


def _one_cell(batch: CellBatch) -> Tensor:
    """(S, S) bool, which rows are views of the same cell."""
    return batch.cell[:, None] == batch.cell[None]


def _views(batch: CellBatch) -> Tensor:
    """(P, 2) rows that are different views of a cell, both ways."""
    others = _one_cell(batch)
    others.fill_diagonal_(False)
    return others.nonzero()


def _neighbors(batch: CellBatch) -> tuple[Tensor, Tensor]:
    """Pairs of neighbours (P, 2) among rows, and which rows are no counterexamples to each other (S, S)."""
    partner = batch.partner if batch.partner is not None else batch.cell.new_zeros(0, 2)
    unique, number = torch.unique(batch.cell, return_inverse=True)
    near = torch.zeros(len(unique), len(unique), dtype=torch.bool, device=number.device)
    near[number[partner[:, 0]], number[partner[:, 1]]] = True
    return partner, near[number][:, number] | _one_cell(batch)
