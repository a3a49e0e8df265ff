import copy

import pytest
import torch

from stgraph._config import instantiate, to_config
from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.models.cell_network import CellNetwork
from stgraph.models.rank_encoder import RankEncoder

LENGTHS = [4, 2, 9, 2]


def make(**options):
    torch.manual_seed(0)
    sizes = {"out_channels": 6, "hidden_channels": 16, "num_layers": 2, "heads": 4, "max_positions": 10}
    return RankEncoder(20, **sizes | options).eval()


def batch(lengths=LENGTHS):
    tokens = torch.randint(2, 19, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return CellBatch(tokens.index_fill(0, offsets[:-1], 19), offsets, torch.arange(len(lengths)))


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_embeddings_are_of_length_1_and_the_same_both_ways(pooling):
    model, cells = make(pooling=pooling), batch()
    states = model(cells)
    assert isinstance(model, CellNetwork)
    assert states.token.shape == (17, 16)
    torch.testing.assert_close(states.cell.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(model.embed(cells), states.cell)
    tokens = states.token.split(LENGTHS)
    pooled = [of_cell[0] if pooling == "class" else of_cell[1:].mean(0) for of_cell in tokens]
    expected = torch.nn.functional.normalize(model.cell_proj(torch.stack(pooled)), dim=1)
    torch.testing.assert_close(states.cell, expected)


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_a_cell_without_genes_is_its_class_token(pooling):
    model = make(pooling=pooling)
    states = model(batch([1, 3, 1]))
    expected = torch.nn.functional.normalize(model.cell_proj(states.token[[0, 4]]), dim=1)
    torch.testing.assert_close(states.cell[[0, 2]], expected)


def test_the_mean_has_the_gradient_of_a_mean():
    model, offsets = make(), torch.tensor([0, 1, 5, 7])
    token = torch.randn(7, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda token: model.pool(token, offsets), token)


def test_the_mean_of_a_drawn_network_tells_cells_and_its_class_token_dropout():
    """The measure by which a readout is chosen: how far cells are apart, and how far two views of one."""

    def ratio(pooling):
        model = make(hidden_channels=32, out_channels=32, dropout=0.1, attention_dropout=0.1, pooling=pooling)
        with torch.no_grad():
            cells = model.embed(batch([9] * 60))
            views = torch.stack([model.train().embed(batch([9] * 60)) for _ in range(4)])
        return float(cells.var(0).sum() / views.var(0).sum(1).mean())

    assert ratio("mean") > 4 * ratio("class")


def test_scaled_features():
    model, cells = make(), batch([9] * 40)
    unit = model(cells).cell.detach()
    assert not model.scaled
    assert model.scale_features(unit).scaled
    x = model.embed(cells)
    torch.testing.assert_close(x.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.var(0, correction=0).mean(), torch.tensor(1.0))
    torch.testing.assert_close(model(cells).cell, unit)  # what objectives see stays of length 1
    torch.testing.assert_close(torch.cdist(x, x) * model.feature_scale, torch.cdist(unit, unit), atol=1e-3, rtol=0)
    for nothing in (None, unit[:1], unit[:1].expand(5, -1)):
        assert not model.scale_features(nothing).scaled


def test_predictions_begin_at_frequencies():
    model = make().fit_genes(torch.tensor([19, 4, 4, 4, 5, 19]))
    for bias in (model.gene_bias, model.cls["predictions"].bias):
        shares = bias.detach().softmax(0)
        assert float(shares[4]) == pytest.approx(3 / 14.5)  # 17 tokens that do not occur count half
        assert float(shares[7]) == pytest.approx(0.5 / 14.5)


def test_embedding_has_a_gradient():
    model = make()
    model.embed(batch()).sum().backward()
    assert model.bert.word_weight.grad.abs().sum() > 0
    assert model.cell_proj.weight.grad.abs().sum() > 0


def test_order_of_cells_is_that_of_the_batch():
    model = make()
    cells = batch()
    tokens = cells.tokens.split(LENGTHS)
    order = [2, 0, 3, 1]
    other = CellBatch(
        torch.cat([tokens[i] for i in order]),
        torch.tensor([0, *(LENGTHS[i] for i in order)]).cumsum(0),
        torch.tensor(order),
    )
    torch.testing.assert_close(model.embed(other), model.embed(cells)[order])


def test_genes_are_predicted_as_hugging_face_does():
    transformers = pytest.importorskip("transformers")
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=10, hidden_act="relu",
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(config).eval()
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(("bert", "cls"))}
    kept = theirs.load_state_dict(own, strict=False)
    assert not kept.unexpected_keys
    assert set(kept.missing_keys) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}  # tied
    cells = batch()
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    padded = torch.zeros(4, max(LENGTHS), dtype=torch.long)
    padded[mask] = cells.tokens
    with torch.no_grad():
        expected = theirs(input_ids=padded, attention_mask=mask.long()).logits[mask]
        torch.testing.assert_close(model.predict_genes(model(cells).token), expected, atol=1e-5, rtol=1e-5)


def test_masked_genes_can_be_learnt():
    torch.manual_seed(0)
    model = make(dropout=0.0, attention_dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    tokens = torch.tensor([19, 4, 1, 19, 7, 1])  # after gene 4 comes 5, after 7 comes 8
    cells = CellBatch(tokens, torch.tensor([0, 3, 6]), torch.tensor([0, 1]))
    for _ in range(100):
        logits = model.predict_genes(model(cells).token[[2, 5]])
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([5, 8]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logits.argmax(1).tolist() == [5, 8]


def test_a_cell_without_tokens_is_refused():
    model, cells = make(), batch([2, 0, 3])
    for call in (model, model.embed):
        with pytest.raises(InputError, match="Sequence 1 has no tokens"):
            call(cells)


def test_bfloat16_embeddings_are_of_length_1():
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        embedding = model.embed(batch())
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4), atol=1e-6, rtol=0)
    assert (embedding * make().embed(batch())).sum(1).min() > 0.99


def test_config_round_trip_and_copies():
    model = make(activation="gelu", norm_eps=1e-6, dropout=0.3)
    again = instantiate(to_config(model))
    assert to_config(again) == to_config(model)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().embed(batch()), model.embed(batch()))
    assert torch.equal(copy.deepcopy(model).embed(batch()), model.embed(batch()))


def test_bad_arguments():
    with pytest.raises(ValueError, match="out_channels"):
        make(out_channels=0)
    with pytest.raises(ValueError, match="pooling must be one of class, mean, not 'max'"):
        make(pooling="max")
