import weakref
from functools import partial

import numpy as np
import pytest
import torch

import stgraph
from stgraph.data.convert import to_hetero_data
from stgraph.data.parts import part_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.models.pair_scope import CompletePairs, EdgePairs
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.partition.halo import part_with_halo
from stgraph.tasks.pretrained import from_pretrained
from stgraph.testing.models import CellGraphModelContract
from stgraph.training.loop import Trainer

small = partial(SToFMSE2, hidden_channels=24, num_layers=2, heads=4, ffn_channels=20, num_kernels=8)


class TestContract(CellGraphModelContract):
    make = staticmethod(small)


class TestPreNormExactContract(CellGraphModelContract):
    make = staticmethod(partial(small, norm="pre", tabulate=None))


class TestCompleteContract(CellGraphModelContract):
    make = staticmethod(partial(small, scope=CompletePairs()))

    def test_part_with_halo(self, model, graphs):
        """All pairs of a part are not all pairs of the slice: that is what this scope is."""
        graph = graphs[0]
        part = part_with_halo(graph, np.arange(60), model.num_layers)
        states = model.embed(part_data(graph, part))[part.owned]
        assert (model.embed(to_hetero_data(graph))[:60] - states).abs().max() > 1e-3


class TestTruncatedContract(TestCompleteContract):
    make = staticmethod(partial(small, scope=CompletePairs(neighbors=50)))


@pytest.fixture
def graph(tissue):
    return build_graph(tissue, builder=KNN(6))


@pytest.fixture
def model(graph):
    torch.manual_seed(0)
    model = small(graph.x.shape[1]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_both_scopes_have_the_same_weights(graph, model):
    complete = small(graph.x.shape[1], scope=CompletePairs()).eval()
    complete.load_state_dict(model.state_dict(), strict=True)
    data = to_hetero_data(graph)
    assert (complete.embed(data) - model.embed(data)).abs().max() > 1e-3


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_parts_with_enough_halo_give_the_embedding_of_the_whole(graph, model, hops):
    whole = model.embed(to_hetero_data(graph, informs=False))
    assert hops != 2 or model.num_layers == 2
    part = part_with_halo(graph, np.argsort(graph.pos[:, 0])[:80], hops)
    states = model.embed(part_data(graph, part, informs=False))
    error = (states[part.owned] - whole[part.cells[part.owned]]).abs().max()
    assert (error < 2e-5) == (hops >= 2)


def test_embedding_is_the_state_of_the_cell(graph, model):
    data = to_hetero_data(graph)
    output = model(data)
    assert output.query is output.cell
    torch.testing.assert_close(model.embed(data), output.cell.detach(), rtol=0, atol=1e-5)
    assert not model.embed(data).requires_grad
    assert output.virtual.shape == (len(graph.virtual), 24)
    assert output.near_pair.shape == (graph.near.nnz, 4)


def test_masked_cells_hold_the_constant(graph):
    torch.manual_seed(0)
    model = small(graph.x.shape[1], mask_value=-100.0).eval()
    assert "mask" not in model.state_dict()
    data = to_hetero_data(graph)
    data["cell"].masked = torch.arange(len(graph)) % 3 == 0
    masked = model(data).cell
    del data["cell"].masked
    data["cell"].x = data["cell"].x.clone()
    data["cell"].x[::3] = -100.0
    assert torch.equal(masked, model(data).cell)


@pytest.mark.parametrize("backend", ["reference", "fused-cpu"])
def test_backends_agree(graph, model, backend):
    other = small(graph.x.shape[1], backend=backend).eval()
    other.load_state_dict(model.state_dict())
    data = to_hetero_data(graph)
    torch.testing.assert_close(other.embed(data), model.embed(data), rtol=0, atol=2e-5)


@pytest.mark.parametrize("scope", [EdgePairs(), CompletePairs(neighbors=50)], ids=repr)
def test_it_is_fitted_saved_and_loaded(slices, tmp_path, scope):
    slices = [adata[:120].copy() for adata in slices]
    result = stgraph.fit(
        slices,
        model={
            "_target_": "stgraph.models.stofm_se2.SToFMSE2",
            "hidden_channels": 16,
            "num_layers": 1,
            "heads": 2,
            "ffn_channels": 16,
            "num_kernels": 8,
            "scope": scope,
        },
        partitioner={"_target_": "stgraph.partition.metis.Metis", "part_size": 60},
        trainer=Trainer(max_steps=30, lr=1e-2),
        progress=False,
    )
    for name in ("masked_cell", "distance_recovery"):
        losses = [record[name] for record in result.history]
        assert np.mean(losses[-5:]) < np.mean(losses[:5]), name
    result.pretrained.save(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert again.model.scope == scope
    embedded = stgraph.embed(slices[0], again).obsm["X_stgraph"]
    np.testing.assert_allclose(embedded, result.adatas["synthetic_0"].obsm["X_stgraph"], atol=1e-5)


def test_embedding_lets_go_of_what_is_used_up(graph, model, monkeypatch):
    used, alive = [], []
    features = model._features

    def watched(*args):
        made = features(*args)
        used.append(weakref.ref(made))
        return made

    monkeypatch.setattr(model, "_features", watched)
    first, second = model.model.encoder["layers"]
    first.register_forward_pre_hook(lambda _, inputs: used.extend(map(weakref.ref, (inputs[0], inputs[2]))))
    second.register_forward_pre_hook(lambda *_: alive.extend(ref() is not None for ref in used))
    model.embed(to_hetero_data(graph, informs=False))
    assert alive == [False, False, False]


@pytest.mark.parametrize("scope", ["edges", EdgePairs, None])
def test_a_scope_is_an_object(scope):
    with pytest.raises(InputError, match=r"must be an object such as EdgePairs\(\)"):
        SToFMSE2(in_channels=5, hidden_channels=8, heads=2, scope=scope)


@pytest.mark.parametrize("scope", [EdgePairs(), CompletePairs()])
def test_cells_see_the_features_of_virtual_cells_in_their_order(graph, model, scope):
    model.scope = scope
    data = to_hetero_data(graph, informs=False)
    out = model(data)
    virtual = data["virtual"].x.clone()
    data["virtual"].x[0] += 1.0
    assert (model(data).cell - out.cell).abs().max() > 1e-4
    data["virtual"].x = virtual[0].expand_as(virtual).clone()
    alike = model(data).virtual
    data["virtual"].x[-1] += 1.0
    moved = (model(data).virtual - alike).abs().amax(dim=1)
    assert moved[-1] > moved[:-1].max()
