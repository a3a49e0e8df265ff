import inspect
from dataclasses import replace

import pytest
import torch
import yaml

from stgraph._config import config_dir, instantiate
from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import HiddenGenes, NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.models.aido_tissue import AIDOTissue, center_tokens
from stgraph.nn.module_config import module_config
from stgraph.nn.rotary import rotation
from stgraph.testing.neighborhood_network import NUM_GENES, NeighborhoodNetworkContract, planted_neighborhoods

SMALL = {
    "hidden_channels": 16,
    "num_layers": 3,
    "ffn_channels": 24,
    "num_bins": 5,
    "decoder_channels": 8,
    "decoder_ffn_channels": 16,
}
ONE_LAYER = SMALL | {"num_layers": 1}


class TestAIDOTissue(NeighborhoodNetworkContract):
    make = staticmethod(lambda num_genes: AIDOTissue(num_genes, **SMALL))


class TestAIDOTissueOtherwise(NeighborhoodNetworkContract):
    make = staticmethod(
        lambda num_genes: AIDOTissue(
            num_genes, **ONE_LAYER, norm="layer", pooling="mean_genes", decoder_layers=3, decoder_zeros=2
        )
    )


@pytest.fixture
def batch():
    return planted_neighborhoods()


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = AIDOTissue(NUM_GENES, **SMALL).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_a_last_layer_of_all_tokens_says_the_same_of_centres(model, batch):
    packed = batch.pack()
    x = model.embed_tokens(batch.unique)[packed.source]
    found = model(batch).token
    expected = []
    for row in range(batch.num_cells):
        part = slice(*packed.offsets[row : row + 2].tolist())
        gene, slot = batch.unique.tokens[packed.source[part]], packed.slot[part]
        length = len(gene)
        states = model._encode(x[part], ((1, length, length),), rotation(gene, slot, 8), torch.arange(length))
        expected.append(states[slot == 0])
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=1e-5)


def test_the_place_of_a_neighbour_matters(model, batch):
    exchanged = replace(batch, neighbors=batch.neighbors[:, [0, 2, 1, 3]], packed=None)
    moved = model.embed(exchanged) - model.embed(replace(batch, packed=None))
    assert moved[[0, 3, 4]].abs().amax(dim=1).min() > 2e-4
    same = replace(batch, distance=batch.distance + 7.0)
    assert torch.equal(model.embed(same), model.embed(batch))


@pytest.mark.parametrize("pooling", ["max", "mean", "max_genes", "mean_genes"])
def test_pooling(model, batch, pooling):
    model.pooling = pooling
    states = model(batch)
    genes = center_tokens(batch)
    for row in range(batch.num_cells):
        part = slice(*states.offsets[row : row + 2].tolist())
        token = states.token[part]
        if pooling.endswith("genes"):
            token = token[genes[part] < NUM_GENES]
        expected = token.amax(0) if pooling.startswith("max") else token.mean(0)
        torch.testing.assert_close(states.center[row], expected)


def test_a_zero_that_was_measured_tells_something(model, batch):
    states = model(batch)
    panels = (batch.panels[0], batch.panels[0])
    other = replace(batch, panels=panels)
    before, after = model.predict_hidden(states, batch), model.predict_hidden(states, other)
    small = batch.panel[batch.hidden.row] == 1
    assert (before - after)[small].abs().min() > 1e-4
    torch.testing.assert_close(before[~small], after[~small], rtol=0, atol=1e-5)


def test_a_sample_of_zeros(model, batch):
    states = model(batch)
    everything = model.predict_hidden(states, batch)
    model.decoder_zeros = 100
    assert torch.equal(model.predict_hidden(states, batch), everything)
    model.decoder_zeros = 2
    fewer = model.predict_hidden(states, batch)
    assert not torch.allclose(fewer, everything)
    assert torch.equal(model.predict_hidden(states, batch), fewer)
    model.train()
    torch.manual_seed(0)
    drawn = {tuple(model.predict_hidden(states, batch).tolist()) for _ in range(8)}
    assert len(drawn) > 1


def test_hidden_values_can_be_learned():
    """Every cell has two genes of equal value; one of them is hidden."""
    torch.manual_seed(0)
    model = AIDOTissue(2, **ONE_LAYER | {"num_bins": 16}, decoder_layers=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    row, first = torch.arange(32), torch.zeros(32, dtype=torch.int64)
    for _ in range(110):
        value = torch.rand(32) * 4
        cells = CellBatch(first, torch.arange(33), row, value)
        hidden = HiddenGenes(row, first + 1, value)
        batch = NeighborhoodBatch(cells, row[:, None], torch.zeros(32, 1), first, (torch.arange(2),), hidden=hidden)
        loss = (model.predict_hidden(model(batch), batch) - value).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) / 10 < 0.4  # the variance is 4 / 3


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_autocast_comes_close(batch, norm):
    torch.manual_seed(0)
    model = AIDOTissue(NUM_GENES, **SMALL, norm=norm)
    exact = model.predict_hidden(model(batch), batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.predict_hidden(model(batch), batch)
        half.float().sum().backward()
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.02)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_copies_of_one_model(model):
    config = module_config(model)
    assert config["num_genes"] == NUM_GENES
    assert config["licence"] is None


def test_bad_input(model, batch):
    with pytest.raises(InputError, match="tokens from 0 to 40, but the network's vocabulary is 0 to 14"):
        cells = replace(batch.unique, tokens=batch.unique.tokens.clone().index_fill(0, torch.tensor([0]), 40))
        model(replace(batch, unique=cells))
    with pytest.raises(InputError, match="No genes of this batch are hidden"):
        model.predict_hidden(model(batch), replace(batch, hidden=None))
    with pytest.raises(InputError, match="pooling must be one of max, mean, max_genes, mean_genes, not 'cls'"):
        AIDOTissue(3, pooling="cls")
    with pytest.raises(InputError, match="AIDOTissue needs num_genes of at least 1"):
        AIDOTissue(0)
    with pytest.raises(InputError, match="decoder_zeros of at least 0, not -1"):
        AIDOTissue(3, decoder_zeros=-1)
    for name in ("decoder_heads", "decoder_ffn_channels"):
        with pytest.raises(InputError, match=f"AIDOTissue needs {name} of at least 1, not 0"):
            AIDOTissue(3, **{name: 0})


@pytest.mark.parametrize(("size", "encoder"), [("3m", 3_545_916), ("60m", 60_351_548), ("small", 1_319_776)])
def test_sizes(size, encoder):
    config = yaml.safe_load((config_dir() / "neighborhood_network" / f"aido_tissue_{size}.yaml").read_text())
    with torch.device("meta"):
        model = instantiate({**config, "num_genes": 19_264})
    weights = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("decoder."))
    assert weights == encoder
    assert set(config) - {"_target_"} == set(inspect.signature(AIDOTissue).parameters) - {"num_genes", "licence"}
    if size == "3m":
        with torch.device("meta"):
            assert module_config(model) == module_config(AIDOTissue(19_264))
