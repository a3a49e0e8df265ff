from dataclasses import replace

import numpy as np
import pytest
import torch

from stgraph._config import instantiate
from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import HiddenGenes, NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.center_teller import CenterTeller
from stgraph.nn.module_config import module_config
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.columns_from_center import ColumnsFromCenter
from stgraph.objectives.masked_columns import MaskedColumns

AIDO = {
    "_target_": "stgraph.models.aido_tissue.AIDOTissue",
    "hidden_channels": 16,
    "num_layers": 1,
    "ffn_channels": 16,
    "decoder_channels": 16,
    "decoder_layers": 1,
    "decoder_ffn_channels": 16,
}


class GeneCount:
    """Takes what a network takes, and is none."""

    def __init__(self, num_genes):
        self.num_genes = num_genes


def batch(seed=0, num_cells=8):
    """Cells of six genes, all of one value, that of the cell: what is hidden is what the others show."""
    rng = np.random.default_rng(seed)
    own = rng.uniform(0.5, 5, num_cells)
    cells = CellBatch(
        torch.arange(8).repeat(num_cells),
        torch.arange(num_cells + 1) * 8,
        torch.arange(num_cells),
        torch.from_numpy(np.repeat(own, 8).astype(np.float32)),
    )
    near = torch.stack([torch.arange(num_cells), torch.arange(num_cells).roll(1)], dim=1)
    panel = torch.zeros(num_cells, dtype=torch.int64)
    return NeighborhoodBatch(cells, near, torch.ones(num_cells, 2), panel, (torch.arange(6),))


def drawn(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CenterTeller(6, AIDO)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_it_is_the_network_and_a_head():
    model = drawn().eval()
    spoilt = MaskedColumns(0.5).corrupt(batch(), generator())
    states = model(spoilt)
    assert torch.equal(states.center, model.network(spoilt).center)
    assert torch.equal(model.predict_hidden(states, spoilt), model.network.predict_hidden(states, spoilt))
    said = model.predict_from_center(states, spoilt)
    for n, (row, gene) in enumerate(zip(spoilt.hidden.row, spoilt.hidden.gene, strict=True)):
        told = model.told(states.center[row])
        expected = (told * model.asked.weight[gene]).sum() / 4 + model.mean.weight[gene, 0]
        torch.testing.assert_close(said[n], expected)


def test_the_truth_of_hidden_genes_reaches_no_prediction():
    model = drawn().eval()
    spoilt = MaskedColumns(0.5).corrupt(batch(), generator())
    hidden = spoilt.hidden
    blind = replace(spoilt, hidden=HiddenGenes(hidden.row, hidden.gene, torch.full_like(hidden.truth, torch.nan)))
    for name in ("predict_from_center", "predict_hidden"):
        first, second = (getattr(model, name)(model(each), each) for each in (spoilt, blind))
        assert torch.equal(first, second)
    # Nor do their values, which still stand among those of the distinct cells: only what is packed is read.
    values = torch.where(torch.isin(torch.arange(64), spoilt.packed.source), spoilt.unique.values, 77.0)
    moved = replace(spoilt, unique=replace(spoilt.unique, values=values))
    assert not torch.equal(moved.unique.values, spoilt.unique.values)
    assert torch.equal(model.predict_from_center(model(spoilt), spoilt), model.predict_from_center(model(moved), moved))


def test_a_config_there_and_back():
    model = drawn()
    config = module_config(model)
    assert config["network"]["num_genes"] == 6
    instantiate(config).load_state_dict(model.state_dict())


def test_both_objectives_hide_the_same_and_the_embedding_is_trained():
    both = WeightedSum([MaskedColumns(0.5), ColumnsFromCenter()])
    spoilt = both.corrupt(batch(), generator())
    assert torch.equal(spoilt.hidden.gene, MaskedColumns(0.5).corrupt(batch(), generator()).hidden.gene)
    model = drawn()
    losses = both.losses(model, spoilt)
    error = model.predict_from_center(model(spoilt), spoilt) - spoilt.hidden.truth
    torch.testing.assert_close(losses["columns_from_center"], (error**2).mean())
    losses["loss"].backward()
    for part in (model.told, model.asked, model.mean, model.network.decoder.head[0], model.network.position_embedding):
        assert float(part.weight.grad.abs().sum()) > 0


def test_a_planted_rule_is_learnt():
    model, objective = drawn(), WeightedSum([ColumnsFromCenter(MaskedColumns(0.4))])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(80):
        loss = objective(model, batch(step, 24), generator(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = objective(model.eval(), batch(1000, 24), generator())["loss"]
    assert float(new.detach()) < 0.5 * 4.5**2 / 12  # the variance of what is uniform from .5 to 5


def test_nothing_to_judge():
    model = drawn()
    none = torch.zeros(0, dtype=torch.int64)
    spoilt = replace(batch(), hidden=HiddenGenes(none, none, none.float()))
    loss = ColumnsFromCenter().loss(model, model(spoilt), spoilt)
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_what_cannot_be():
    with pytest.raises(InputError, match="is of 5 genes, but its network of 6"):
        CenterTeller(5, AIDOTissue(6, hidden_channels=16, num_layers=1))
    with pytest.raises(InputError, match="not of a GeneCount"):
        CenterTeller(5, {"_target_": f"{__name__}.GeneCount"})
    aido = AIDOTissue(6, hidden_channels=16, num_layers=1)
    spoilt = MaskedColumns(0.5).corrupt(batch(), generator())
    with pytest.raises(InputError, match="AIDOTissue cannot tell genes from the embedding"):
        ColumnsFromCenter().loss(aido, aido(spoilt), spoilt)
    with pytest.raises(InputError, match="No genes of this batch"):
        ColumnsFromCenter().loss(drawn(), aido(batch()), batch())
    with pytest.raises(InputError, match="No genes of this batch"):
        drawn().predict_from_center(aido(batch()), batch())
