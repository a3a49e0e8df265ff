"""Two networks as one: what each sees, and what neither may see."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

import stgraph
from stgraph.data.cell_tokens import CellTokens
from stgraph.data.parts import PartDataset
from stgraph.errors import InputError
from stgraph.models.joint_model import JointModel, cells_of
from stgraph.models.rank_encoder import RankEncoder
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.training.loop import Trainer

WIDTH = 12
TOKENS = 40


def some_tokens(n, rng):
    lengths = rng.integers(1, 7, n)
    tokens = rng.integers(2, TOKENS - 1, lengths.sum())
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    tokens[indptr[:-1]] = TOKENS - 1  # the class token
    return RaggedTokens(tokens.astype(np.int32), indptr)


@pytest.fixture(scope="module")
def graph():
    adata = stgraph.synthetic_tissue(n_cells=80, n_genes=60)[0]
    x = np.random.default_rng(0).normal(size=(80, WIDTH)).astype(np.float32)
    return stgraph.build_graph(adata, features=x)


@pytest.fixture
def parts(graph):
    tokens = some_tokens(len(graph), np.random.default_rng(1))
    return PartDataset([graph], CoordinateBisection(30), transform=CellTokens({graph.slice_id: tokens}))


def cell_network(dropout=0.0):
    torch.manual_seed(0)
    return RankEncoder(
        TOKENS, WIDTH, hidden_channels=8, num_layers=2, heads=2, ffn_channels=8, dropout=dropout, attention_dropout=0.0
    )


GRAPH_MODELS = {
    "queries": lambda: SE2Transformer(WIDTH, hidden_channels=8, heads=2, ffn_channels=8, num_kernels=4),
    "states": lambda: SToFMSE2(
        WIDTH, hidden_channels=8, num_layers=2, heads=2, ffn_channels=8, num_kernels=4, dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0,
    ),
}  # fmt: skip


@pytest.fixture(params=GRAPH_MODELS)
def graph_model(request):
    torch.manual_seed(1)
    return GRAPH_MODELS[request.param]()


def test_it_is_the_graph_model_on_what_the_network_of_cells_says(parts, graph_model):
    model = JointModel(cell_network(), graph_model).eval()
    data = parts[0]
    embedded = model.embed(data)
    data["cell"].x = model.cell_network.embed(cells_of(data)).detach()
    assert torch.equal(embedded, graph_model.embed(data))


def test_parts_side_by_side_are_parts_alone(parts, graph_model):
    model = JointModel(cell_network(), graph_model).eval()
    each = torch.cat([model.embed(parts[i]) for i in range(2)])
    torch.testing.assert_close(model.embed(Batch.from_data_list([parts[0], parts[1]])), each)


def mask(data, rows):
    data["cell"].masked = torch.zeros(data["cell"].num_nodes, dtype=torch.bool)
    data["cell"].masked[rows] = True
    return data


def with_other_tokens(data, row):
    """The part with other genes in one cell, as many as before."""
    first = int(data["cell"].num_tokens[:row].sum())
    last = first + int(data["cell"].num_tokens[row])
    data["cell"].tokens = data["cell"].tokens.clone()
    data["cell"].tokens[first + 1 : last] = (data["cell"].tokens[first + 1 : last] + 5) % 30 + 2
    return data


def test_nothing_says_what_a_masked_cell_is(parts, graph_model):
    """Its tokens reach no state of any node, nor any pair state."""
    model = JointModel(cell_network(), graph_model).eval()
    row = int(parts[0]["cell"].num_tokens.argmax())
    shown = model(mask(parts[0], []))
    shown_other = model(mask(with_other_tokens(parts[0], row), []))
    assert not torch.equal(shown.cell, shown_other.cell)
    hidden, hidden_other = model(mask(parts[0], [row])), model(mask(with_other_tokens(parts[0], row), [row]))
    for name in ("cell", "query", "virtual", "near_pair"):
        assert torch.equal(getattr(hidden, name), getattr(hidden_other, name)), name


def test_no_gradient_comes_from_a_target(parts, graph_model):
    """The gene that only a masked cell has is not touched by its loss."""
    model = JointModel(cell_network(), graph_model)
    data = mask(parts[0], [0])
    own = 1
    data["cell"].tokens[data["cell"].tokens == own] = 3
    data["cell"].tokens[0] = own
    output = model(data)
    loss = (model.predict_cells(output.query[:1]) - data["cell"].x[:1]).square().sum()
    loss.backward()
    words = model.cell_network.bert.word_weight.grad
    assert words[own].abs().max() == 0
    assert words.abs().max() > 0


def test_targets(parts, graph_model):
    data = parts[0]
    came_with, virtual = data["cell"].x.clone(), data["virtual"].x.clone()
    now = JointModel(cell_network(), graph_model).eval()
    now(data)
    assert torch.equal(data["cell"].x, now.cell_network.embed(cells_of(data)))
    assert not data["cell"].x.requires_grad
    data = parts[0]
    JointModel(now.cell_network, graph_model, target="cached")(data)
    assert torch.equal(data["cell"].x, came_with)
    assert torch.equal(data["virtual"].x, virtual)


def test_runs_of_cells_change_nothing(parts, graph_model):
    whole = JointModel(cell_network(), graph_model)
    runs = JointModel(cell_network(), graph_model, tokens_at_once=9)
    features, in_runs = whole.features(parts[0]), runs.features(parts[0])
    torch.testing.assert_close(in_runs, features)
    weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    (features * weight).sum().backward()
    (in_runs * weight).sum().backward()
    for one, other in zip(whole.cell_network.parameters(), runs.cell_network.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad)


def test_runs_are_computed_again_with_the_same_dropout(parts, monkeypatch):
    """The gradient of a run, in which dropout is drawn a second time, is that of what was given."""
    model = JointModel(cell_network(dropout=0.5), GRAPH_MODELS["queries"](), tokens_at_once=9)

    def gradient():
        torch.manual_seed(3)
        model.zero_grad()
        features = model.features(parts[0])
        torch.rand(7)  # what is drawn between forward and backward does not matter
        features[:, 0].sum().backward()
        return model.cell_network.cell_proj.weight.grad.clone()

    again = gradient()
    monkeypatch.setattr("stgraph.models.joint_model.checkpoint", lambda run, cells, use_reentrant: run(cells))
    kept = gradient()
    assert kept.abs().max() > 0
    torch.testing.assert_close(again, kept)


def test_both_are_trained(parts, graph_model):
    model = JointModel(cell_network(), graph_model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = Trainer(max_steps=2, batch_size=2, warmup_steps=0, accelerator="cpu")
    history = trainer.fit(model, parts, WeightedSum([MaskedCell(error="cosine")]))
    assert len(history) == 2
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("cell_network.bert") for name in changed)
    assert any(name.startswith("graph_model") for name in changed)


def test_what_does_not_fit_is_refused(graph, parts):
    with pytest.raises(InputError, match=r"gives 12 features and the graph model reads 7"):
        JointModel(cell_network(), SE2Transformer(7))
    with pytest.raises(InputError, match="target must be one of current, cached, not 'old'"):
        JointModel(cell_network(), SE2Transformer(WIDTH), target="old")
    with pytest.raises(InputError, match="tokens_at_once"):
        JointModel(cell_network(), SE2Transformer(WIDTH), tokens_at_once=0)
    model = JointModel(cell_network(), SE2Transformer(WIDTH))
    with pytest.raises(InputError, match="have no tokens: give CellTokens"):
        model(PartDataset([graph], CoordinateBisection(30))[0])
    data = parts[0]
    data["cell"].tokens = data["cell"].tokens[1:]
    with pytest.raises(InputError, match="do not belong together"):
        model(data)
