"""The contract of an objective."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch_geometric.data import Batch, HeteroData

from stgraph.data.convert import to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.io.synthetic import synthetic_tissue
from stgraph.models.base import CellGraphModel
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import Objective, WeightedSum


class ObjectiveContract:
    """Inherit, and give ``make``: an objective.

    Examples
    --------
    >>> from stgraph.objectives.masked_cell import MaskedCell
    >>> from stgraph.testing.objectives import ObjectiveContract
    >>> class TestMaskedCell(ObjectiveContract):
    ...     make = staticmethod(MaskedCell)
    """

    make: Callable[[], Objective]

    @pytest.fixture
    def batch(self) -> HeteroData:
        """Two slices of 150 cells."""
        slices = synthetic_tissue(n_cells=150, n_genes=60, n_slices=2)
        batch: HeteroData = Batch.from_data_list([to_hetero_data(build_graph(adata)) for adata in slices])
        return batch

    @pytest.fixture
    def model(self, batch: HeteroData) -> CellGraphModel:
        """A small model."""
        torch.manual_seed(0)
        return SE2Transformer(batch["cell"].x.shape[1], hidden_channels=32, num_layers=1)

    def test_the_batch_is_not_changed(self, batch: HeteroData) -> None:
        """Corruption makes a copy: the next epoch sees the data as they are."""
        before = copy.deepcopy(batch)
        self.make().corrupt(batch, _generator(0))
        for store, kept in zip(batch.stores, before.stores, strict=True):
            assert set(store.keys()) == set(kept.keys())
            for key, value in kept.items():
                assert not isinstance(value, torch.Tensor) or torch.equal(store[key], value), key

    def test_one_seed_one_corruption(self, batch: HeteroData, model: CellGraphModel) -> None:
        """The same seed gives the same loss, another seed another."""
        objective = WeightedSum([self.make()])
        losses = [float(objective(model, batch, _generator(seed))["loss"].detach()) for seed in (0, 0, 1)]
        assert losses[0] == losses[1] != losses[2]

    def test_loss_is_finite_and_can_be_learned(self, batch: HeteroData, model: CellGraphModel) -> None:
        """Training on it brings it down."""
        objective = WeightedSum([self.make()])
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for step in range(60):
            loss = objective(model, batch, _generator(step % 5))["loss"]
            assert torch.isfinite(loss)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        assert sum(losses[-5:]) < 0.97 * sum(losses[:5])

    def test_only_owned_cells_are_corrupted(self, batch: HeteroData) -> None:
        """Context cells are seen as they are."""
        batch["cell"].owned[:] = False
        batch["cell"].owned[10:20] = True
        corrupted = self.make().corrupt(batch, _generator(0))["cell"]
        for key, value in corrupted.items():
            if isinstance(value, torch.Tensor) and value.dtype == torch.bool and key != "owned":
                assert not value[~batch["cell"].owned].any(), key


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
