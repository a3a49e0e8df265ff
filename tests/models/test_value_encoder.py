from dataclasses import replace

import pytest
import torch

from stgraph._config import instantiate
from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.models.value_encoder import ValueEncoder
from stgraph.nn.module_config import module_config
from stgraph.nn.value_embedding import BinnedValues
from stgraph.testing.cell_objectives import planted_cells


@pytest.fixture(params=["continuous", "binned"])
def model(request):
    torch.manual_seed(0)
    embedding = BinnedValues(16, num_bins=4).fit(torch.arange(1.0, 8.0) / 2) if request.param == "binned" else None
    return ValueEncoder(32, 8, 16, num_layers=2, heads=2, value_embedding=embedding).eval()


@pytest.fixture
def cells():
    return planted_cells(12)


def of_cells(cells, rows):
    parts = [slice(*cells.offsets[row : row + 2]) for row in rows]
    return CellBatch(
        torch.cat([cells.tokens[part] for part in parts]),
        torch.tensor([0, *(part.stop - part.start for part in parts)]).cumsum(0),
        cells.cell[rows],
        torch.cat([cells.values[part] for part in parts]),
    )


def test_shapes_and_length(model, cells):
    states = model(cells)
    assert states.token.shape == (cells.num_tokens, 16)
    assert states.cell.shape == (12, 8)
    torch.testing.assert_close(states.cell.norm(dim=1), torch.ones(12))
    assert torch.equal(model.embed(cells), states.cell)
    assert model.predict_genes(states.token[:3]).shape == (3, 32)
    assert model.predict_values(states.token[:3]).shape == (3,)
    assert model.predict_values_of(states.cell[:3], torch.tensor([2, 3, 4])).shape == (3,)


def test_a_cell_depends_on_no_other(model, cells):
    rows = [7, 2, 11]
    torch.testing.assert_close(model.embed(of_cells(cells, rows)), model.embed(cells)[rows], rtol=0, atol=1e-5)


def test_the_order_of_genes_says_nothing(model):
    cells = CellBatch(
        torch.tensor([31, 2, 3, 4]), torch.tensor([0, 4]), torch.tensor([0]), torch.tensor([0.0, 1.0, 2.0, 3.0])
    )
    turned = replace(cells, tokens=cells.tokens[[0, 3, 1, 2]], values=cells.values[[0, 3, 1, 2]])
    torch.testing.assert_close(model.embed(turned), model.embed(cells), rtol=0, atol=1e-5)


def test_values_matter_and_whose_they_are(model):
    cells = CellBatch(
        torch.tensor([31, 2, 3, 4]), torch.tensor([0, 4]), torch.tensor([0]), torch.tensor([0.0, 0.5, 2.0, 3.5])
    )
    exchanged = replace(cells, values=cells.values[[0, 3, 2, 1]])
    assert (model.embed(exchanged) - model.embed(cells)).abs().max() > 1e-3


def test_a_hidden_value_is_not_seen(model, cells):
    hidden = cells.values.clone()
    hidden[[1, 8]] = torch.nan
    states = model(replace(cells, values=hidden))
    assert torch.isfinite(states.token).all()
    assert not torch.allclose(states.token[1], model(cells).token[1])


def test_gradients_reach_every_weight(model, cells):
    hidden = cells.values.clone()
    hidden[1] = torch.nan
    states = model.train()(replace(cells, values=hidden))
    genes = model.predict_genes(states.token).logsumexp(1).sum()
    values = model.predict_values(states.token).sum() + model.predict_values_of(states.cell, cells.cell + 2).sum()
    (genes + values + model.predict_genes_of(states.cell).logsumexp(1).sum()).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_config_round_trip(model, cells):
    again = instantiate(module_config(model), trusted=("stgraph",))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().embed(cells), model.embed(cells))


def test_cells_without_values(model, cells):
    with pytest.raises(InputError, match="A ValueEncoder reads values"):
        model(replace(cells, values=None))


def test_tokens_of_another_vocabulary(model, cells):
    with pytest.raises(InputError, match="tokens from 2 to 40, but the network's vocabulary is 0 to 31"):
        model(replace(cells, tokens=cells.tokens.where(cells.tokens < 31, 40)))


def test_senseless_sizes():
    with pytest.raises(InputError, match="at least 1"):
        ValueEncoder(0)
