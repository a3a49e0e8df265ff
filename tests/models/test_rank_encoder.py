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


def test_embeddings_are_of_length_1_and_the_same_both_ways():
    model, cells = make(), batch()
    states = model(cells)
    assert isinstance(model, CellNetwork)
    assert states.token.shape == (17, 16)
    torch.testing.assert_close(states.cell.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(model.embed(cells), states.cell)
    torch.testing.assert_close(
        states.cell, torch.nn.functional.normalize(model.cell_proj(states.token[cells.offsets[:-1]]), dim=1)
    )


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
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("cell_proj")}
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
