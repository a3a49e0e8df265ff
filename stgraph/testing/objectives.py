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
            loss.backward()
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

    def test_losses_of_batches_add_up(self, batch: HeteroData, model: CellGraphModel) -> None:
        """Each batch's mean times its share in what is counted: the same as one batch that holds everything."""
        objective = WeightedSum([self.make()])
        parts = [objective.corrupt(data, _generator(i)) for i, data in enumerate(batch.to_data_list())]
        counts = [objective.counts(part) for part in parts]
        whole: HeteroData = Batch.from_data_list(parts)
        for name, total in objective.counts(whole).items():
            assert total.shape == ()
            assert total.dtype == torch.float32
            assert 0 < float(total) == sum(float(count[name]) for count in counts)
            losses = [
                objective.losses(model, part, {name: count[name] / total}, share=0.5)
                for part, count in zip(parts, counts, strict=True)
            ]
            expected = objective.losses(model, whole)
            for key in ("loss", name):
                torch.testing.assert_close(losses[0][key] + losses[1][key], expected[key], rtol=1e-4, atol=1e-6)

    def test_nothing_to_judge(self, batch: HeteroData, model: CellGraphModel) -> None:
        """A batch without owned cells counts nothing, costs nothing and moves nothing."""
        batch["cell"].owned[:] = False
        objective = WeightedSum([self.make()])
        corrupted = objective.corrupt(batch, _generator(0))
        assert all(float(count) == 0 for count in objective.counts(corrupted).values())
        loss = objective.losses(model, corrupted)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) == 0
        assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
