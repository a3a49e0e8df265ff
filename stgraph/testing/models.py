"""The contract of a model of slice graphs."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, HeteroData

from stgraph._config import instantiate, to_config
from stgraph.data.convert import to_hetero_data
from stgraph.data.parts import part_data
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.spacing import median_spacing
from stgraph.graph.virtual_cells import JointLeiden
from stgraph.io.synthetic import synthetic_tissue
from stgraph.models.base import CellGraphModel
from stgraph.partition.halo import part_with_halo

_TOLERANCE = 2e-5
"""Of float32 states of order one, after sums in another order."""


class CellGraphModelContract:
    """Inherit, and give ``make``: a model with random weights for a number of input channels.

    Examples
    --------
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> from stgraph.testing.models import CellGraphModelContract
    >>> class TestSE2Transformer(CellGraphModelContract):
    ...     make = staticmethod(lambda in_channels: SE2Transformer(in_channels))
    """

    make: Callable[[int], CellGraphModel]

    @pytest.fixture
    def graphs(self) -> list[SliceGraph]:
        """Two slices of different size."""
        first, second = synthetic_tissue(n_cells=300, n_genes=60, n_slices=2)
        return [build_graph(adata, builder=KNN(8)) for adata in (first, second[:180].copy())]

    @pytest.fixture
    def model(self, graphs: list[SliceGraph]) -> CellGraphModel:
        """A model whose every weight matters: biases and scales are moved from where they start."""
        torch.manual_seed(0)
        model = self.make(graphs[0].x.shape[1]).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model

    def test_rigid_motion(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """A moved, turned and mirrored slice has the same embeddings."""
        turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, -1.0])
        for graph in (graphs[0], _on_lattice(graphs[0])):
            moved = _rebuilt(graph, graph.pos @ turn.T + [1e4, -300.0])
            _assert_close(_embed(model, graph), _embed(model, moved))

    def test_unit(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """A slice in another unit of length has the same embeddings."""
        graph = graphs[0]
        _assert_close(_embed(model, graph), _embed(model, _rebuilt(graph, graph.pos * 137.0)))

    def test_distances_matter(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """A slice stretched along one axis has other embeddings: the geometry is read."""
        graph = graphs[0]
        stretched = _rebuilt(graph, graph.pos * [3.0, 1.0], near=graph.near)
        assert np.abs(_embed(model, graph) - _embed(model, stretched)).max() > 100 * _TOLERANCE

    def test_permutation(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """Permuted cells have permuted embeddings."""
        order = np.random.default_rng(0).permutation(len(graphs[0]))
        for graph in (graphs[0], _on_lattice(graphs[0])):
            _assert_close(_embed(model, graph)[order], _embed(model, _permuted(graph, order)))

    def test_batch(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """A slice alone or in a batch has the same embeddings."""
        batch: HeteroData = Batch.from_data_list([to_hetero_data(graph) for graph in graphs])
        together = model.embed(batch).numpy()
        _assert_close(np.concatenate([_embed(model, graph) for graph in graphs]), together)

    def test_part_with_halo(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """A part with as many hops of context as there are layers has the embeddings of the whole."""
        graph = graphs[0]
        owned = np.sort(np.argsort(graph.pos[:, 0])[:60])
        part = part_data(graph, part_with_halo(graph, owned, model.num_layers))
        assert part["cell"].num_nodes < len(graph)
        states = model.embed(part).numpy()[part["cell"].owned.numpy()]
        _assert_close(_embed(model, graph)[owned], states)

    def test_masked_cells_are_hidden(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """What a masked cell holds changes no state; what another holds does."""
        data = to_hetero_data(graphs[0])
        data["cell"].masked = torch.arange(data["cell"].num_nodes) < 5
        before = model(data).query
        data["cell"].x = data["cell"].x.clone()
        data["cell"].x[:5] += 10.0
        assert torch.equal(before, model(data).query)
        data["cell"].x[5] += 10.0
        assert not torch.equal(before, model(data).query)

    def test_no_virtual_cells(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """A graph without virtual cells is a graph."""
        graph = graphs[1]
        bare = SliceGraph(graph.slice_id, graph.x, graph.pos, graph.near, None, graph.spacing, graph.unit)
        assert np.isfinite(_embed(model, bare)).all()

    def test_gradients_reach_every_weight(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """No weight is left out of training."""
        data = to_hetero_data(graphs[1])
        data["cell"].masked = torch.arange(data["cell"].num_nodes) % 4 == 0
        output = model(data)
        states = output.cell.square().sum() + output.virtual.square().sum()
        loss = (
            states + model.predict_cells(output.query).square().sum() + model.predict_distances(output.near_pair).sum()
        )
        loss.backward()
        still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert still == []

    def test_config_and_weights_make_the_same_model(self, model: CellGraphModel, graphs: list[SliceGraph]) -> None:
        """Config and state dict are all there is to a model."""
        again = instantiate(to_config(model))
        again.load_state_dict(model.state_dict())
        np.testing.assert_array_equal(_embed(model, graphs[1]), _embed(again.eval(), graphs[1]))


def _permuted(graph: SliceGraph, order: np.ndarray) -> SliceGraph:
    """The same cells in another order, everything else found anew."""
    return _rebuilt(replace(graph, x=graph.x[order]), graph.pos[order])


def _on_lattice(graph: SliceGraph) -> SliceGraph:
    """The same cells on a hexagonal array like Visium's, where neighbours tie by the dozen."""
    columns = math.ceil(math.sqrt(len(graph)))
    row, column = np.divmod(np.arange(len(graph)), columns)
    return _rebuilt(graph, np.stack([column + 0.5 * (row % 2), row * math.sqrt(3) / 2], axis=1) * 100.0)


def _rebuilt(graph: SliceGraph, pos: np.ndarray, near: object = None) -> SliceGraph:
    """The same cells at other places; with ``near``, the same neighbours, measured anew."""
    if near is None:
        near, spacing = KNN(8)(pos), median_spacing(pos)
    else:
        near, spacing = _measured(graph, pos), graph.spacing
    return SliceGraph(graph.slice_id, graph.x, pos, near, JointLeiden()(graph.x, pos), spacing, graph.unit)


def _measured(graph: SliceGraph, pos: np.ndarray) -> object:
    near = graph.near.copy()
    row = np.repeat(np.arange(len(pos)), np.diff(near.indptr))
    near.data = np.linalg.norm(pos[row] - pos[near.indices], axis=1)
    return near


def _embed(model: CellGraphModel, graph: SliceGraph) -> np.ndarray:
    return np.asarray(model.embed(to_hetero_data(graph)).numpy())


def _assert_close(expected: np.ndarray, actual: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=_TOLERANCE)
