"""The contract of an objective on cells."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stgraph.data.cell_batch import CellBatch
from stgraph.models.cell_network import CellNetwork
from stgraph.models.rank_encoder import RankEncoder
from stgraph.objectives.base import Objective, WeightedSum

_NUM_KINDS, _GENES_OF_KIND = 3, 6


class CellObjectiveContract:
    """Inherit, and give ``make``: an objective on `stgraph.data.cell_batch.CellBatch`.

    Examples
    --------
    >>> from stgraph.objectives.masked_gene import MaskedGene
    >>> from stgraph.testing.cell_objectives import CellObjectiveContract
    >>> class TestMaskedGene(CellObjectiveContract):
    ...     make = staticmethod(MaskedGene)
    """

    make: Callable[[], Objective]

    @pytest.fixture
    def batch(self) -> CellBatch:
        """Cells of three kinds in a row, each kind with genes of its own, each cell with most of them."""
        return planted_cells(30)

    @pytest.fixture
    def model(self, batch: CellBatch) -> CellNetwork:
        """A small network."""
        return small_network()

    def test_the_batch_is_not_changed(self, batch: CellBatch) -> None:
        """Corruption makes a copy: the next epoch sees the data as they are."""
        before = copy.deepcopy(batch)
        self.make().corrupt(batch, _generator(0))
        for name, kept in vars(before).items():
            value = getattr(batch, name)
            assert torch.equal(value, kept) if isinstance(kept, Tensor) else value is None, name

    def test_one_seed_one_loss(self, batch: CellBatch, model: CellNetwork) -> None:
        """The same seed gives the same loss."""
        objective = WeightedSum([self.make()])
        losses = []
        for _ in range(2):
            torch.manual_seed(0)
            losses.append(float(objective(model, batch, _generator(0))["loss"].detach()))
        assert losses[0] == losses[1]

    def test_loss_is_finite_and_can_be_learned(self, batch: CellBatch, model: CellNetwork) -> None:
        """Training on it brings it down."""
        objective = WeightedSum([self.make()])
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for step in range(50):
            loss = objective(model, batch, _generator(step % 5))["loss"]
            assert torch.isfinite(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert sum(losses[-5:]) < 0.8 * sum(losses[:5])

    def test_count_is_what_the_loss_is_a_mean_of(self, batch: CellBatch, model: CellNetwork) -> None:
        """Something is judged, and the count is a float32 without dimensions."""
        count = self.make().count(self.make().corrupt(batch, _generator(0)))
        assert count.dtype == torch.float32
        assert count.ndim == 0
        assert count > 0

    def test_reads_cell_tells_whether_the_embedding_is_trained(self, batch: CellBatch, model: CellNetwork) -> None:
        """The projection has a gradient, unless ``reads_cell`` of the objective is false: then it has none."""
        objective = self.make()
        WeightedSum([objective])(model, batch, _generator(0))["loss"].backward()
        gradient = model.cell_proj.weight.grad
        trained = gradient is not None and bool(gradient.abs().sum() > 0)
        assert trained is getattr(objective, "reads_cell", True)

    def test_nothing_to_judge(self, model: CellNetwork) -> None:
        """A batch that holds nothing to be judged gives zero, with a gradient, not NaN."""
        alone = CellBatch(
            torch.tensor([31]), torch.tensor([0, 1]), torch.tensor([0]), partner=torch.zeros(0, 2, dtype=torch.int64)
        )
        objective = self.make()
        spoilt = objective.corrupt(alone, _generator(0))
        loss = objective.loss(model, model(spoilt), spoilt)
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(objective.count(spoilt)) == float(loss.detach()) == 0.0
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def small_network(vocabulary_size: int = 32, dropout: float = 0.1) -> CellNetwork:
    """A network for cells of `planted_cells`, in training."""
    torch.manual_seed(0)
    return RankEncoder(
        vocabulary_size,
        out_channels=16,
        hidden_channels=16,
        num_layers=1,
        heads=2,
        dropout=dropout,
        attention_dropout=0,
    )


def planted_cells(num_cells: int, seed: int = 0) -> CellBatch:
    """Cells of three kinds, a third each, one kind after another; neighbours are those before and behind.

    Tokens are 2 to 19, six for each kind of cell, and 31 is the class token. A cell has five of the six genes of its
    kind, in any order.
    """
    generator = _generator(seed)
    rows = []
    for cell in range(num_cells):
        kind = cell * _NUM_KINDS // num_cells
        genes = 2 + kind * _GENES_OF_KIND + torch.randperm(_GENES_OF_KIND, generator=generator)[:-1]
        rows.append(torch.cat([torch.tensor([31]), genes]))
    before = torch.arange(num_cells - 1)
    partner = torch.stack([before, before + 1], dim=1)
    return CellBatch(
        tokens=torch.cat(rows),
        offsets=torch.arange(num_cells + 1) * _GENES_OF_KIND,
        cell=torch.arange(num_cells),
        values=torch.cat(rows) % 7 / 2.0,
        partner=torch.cat([partner, partner.flip(1)]),
    )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
