import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from stgraph._config import to_config
from stgraph.data.cell_batch import CellBatch
from stgraph.errors import CheckpointError, InputError
from stgraph.models.bert_checkpoint import load_rank_encoder, save_rank_encoder
from stgraph.models.rank_encoder import RankEncoder

SIZES = {"hidden_channels": 12, "num_layers": 2, "heads": 3, "ffn_channels": 10, "max_positions": 9, "num_types": 3}


def make(**options):
    torch.manual_seed(0)
    model = RankEncoder(20, 7, **SIZES | {"pooling": "class"} | options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def cells():
    tokens = torch.tensor([19, 4, 8, 19, 2, 19, 3, 5, 7, 11, 13, 17])
    return CellBatch(tokens, torch.tensor([0, 3, 5, 12]), torch.arange(3))


@pytest.fixture(params=[False, True], ids=["BertModel", "BertForMaskedLM"])
def head(request):
    return request.param


@pytest.fixture
def folder(tmp_path, head):
    save_rank_encoder(make(activation="gelu", norm_eps=1e-6, dropout=0.3), tmp_path / "published", head=head)
    return tmp_path / "published"


def rewrite(folder, change):
    """Change the weights of both files, by their names on disk."""
    path = folder / "cell_bert" / "model.safetensors"
    weights, projection = load_file(path), torch.load(folder / "cell_proj.bin", weights_only=True)
    prefix = "bert." if any(name.startswith("bert.") for name in weights) else ""
    change({"prefix": prefix, "bert": weights, "proj": projection})
    save_file(weights, path, metadata={"format": "pt"})
    torch.save(projection, folder / "cell_proj.bin")


def configure(folder, **changes):
    path = folder / "cell_bert" / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def test_round_trip_is_exact(folder, head, tmp_path):
    original, loaded = make(activation="gelu", norm_eps=1e-6, dropout=0.3), load_rank_encoder(folder)
    assert to_config(loaded) == to_config(original)
    expected = original.state_dict()
    for name, tensor in loaded.state_dict().items():
        if not name.startswith(("cell_head.", "gene_bias") if head else ("cls.", "cell_head.", "gene_bias")):
            assert torch.equal(tensor, expected[name]), name
    assert not loaded.training
    assert torch.equal(loaded.embed(cells()), original.embed(cells()))
    save_rank_encoder(loaded, tmp_path / "again", head=head)
    for name in ("cell_bert/config.json", "cell_bert/model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_missing_head_is_drawn_from_the_seed(tmp_path):
    save_rank_encoder(make(), tmp_path / "a")
    torch.manual_seed(77)
    heads = [load_rank_encoder(tmp_path / "a", random_state=seed).cls.state_dict() for seed in (0, 0, 1)]
    weight = "predictions.transform.dense.weight"
    assert torch.equal(heads[0][weight], heads[1][weight])
    assert not torch.equal(heads[0][weight], heads[2][weight])
    drawn = torch.rand(1)
    torch.manual_seed(77)
    assert torch.equal(drawn, torch.rand(1))  # nobody else's draw is disturbed


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("who", ["BertModel", "BertForMaskedLM"])
def test_reads_what_hugging_face_writes(tmp_path, kind, who):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=25, hidden_size=12, num_hidden_layers=3, num_attention_heads=2, intermediate_size=14,
        max_position_embeddings=11, hidden_act="relu", layer_norm_eps=1e-5, hidden_dropout_prob=0.02,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = getattr(transformers, who)(config).eval()
    projection = torch.nn.Linear(12, 6)
    bert = tmp_path / "cell_bert"
    theirs.save_pretrained(bert)
    if kind == "pytorch_model.bin":  # with what is tied and what older versions stored
        (bert / "model.safetensors").unlink()
        prefix = "" if who == "BertModel" else "bert."
        torch.save(theirs.state_dict() | {f"{prefix}embeddings.position_ids": torch.arange(11)[None]}, bert / kind)
    torch.save(projection.state_dict(), tmp_path / "cell_proj.bin")

    ours = load_rank_encoder(tmp_path)
    assert (ours.vocabulary_size, ours.num_layers, ours.heads, ours.norm_eps, ours.max_positions) == (
        25,
        3,
        2,
        1e-5,
        11,
    )
    assert (ours.dropout, ours.attention_dropout, ours.activation, ours.out_channels) == (0.02, 0.1, "relu", 6)
    batch = cells()
    lengths = batch.lengths
    mask = torch.arange(7) < lengths[:, None]
    padded = torch.zeros(3, 7, dtype=torch.long)
    padded[mask] = batch.tokens
    with torch.no_grad():
        encoder = theirs if who == "BertModel" else theirs.bert
        expected = encoder(input_ids=padded, attention_mask=mask.long()).last_hidden_state
        states = ours(batch)
        torch.testing.assert_close(states.token, expected[mask], atol=1e-5, rtol=0)
        cell = torch.nn.functional.normalize(projection(expected[:, 0]), dim=1)
        torch.testing.assert_close(states.cell, cell, atol=1e-5, rtol=0)
        if who == "BertForMaskedLM":
            logits = theirs(input_ids=padded, attention_mask=mask.long()).logits[mask]
            torch.testing.assert_close(ours.predict_genes(states.token), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("who", ["BertModel", "BertForMaskedLM"])
def test_hugging_face_reads_what_we_write(tmp_path, who):
    transformers = pytest.importorskip("transformers")
    model = make()
    save_rank_encoder(model, tmp_path / "a", head=who == "BertForMaskedLM")
    options = {"add_pooling_layer": False} if who == "BertModel" else {}
    theirs, told = getattr(transformers, who).from_pretrained(
        tmp_path / "a" / "cell_bert", output_loading_info=True, **options
    )
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        out = theirs.eval()(input_ids=cells().tokens[None, 5:])
        states = model(cells()).token[5:]
        if who == "BertModel":
            torch.testing.assert_close(out.last_hidden_state[0], states, atol=1e-5, rtol=0)
        else:
            torch.testing.assert_close(out.logits[0], model.predict_genes(states), atol=1e-5, rtol=1e-5)


def test_half_precision_becomes_float32(folder):
    def halve(w):
        for part in ("bert", "proj"):
            w[part].update({name: tensor.half() for name, tensor in w[part].items()})

    before = load_rank_encoder(folder)
    rewrite(folder, halve)
    loaded = load_rank_encoder(folder)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(loaded.embed(cells()), before.embed(cells()), atol=1e-2, rtol=0)


def test_every_problem_is_listed_at_once(folder):
    def break_(w):
        p = w["prefix"]
        del w["bert"][f"{p}encoder.layer.1.output.dense.bias"]
        w["bert"][f"{p}encoder.layer.0.intermediate.dense.bias"] = torch.ones(4)
        w["bert"][f"{p}embeddings.extra"] = torch.ones(2)
        w["bert"][f"{p}embeddings.LayerNorm.weight"] = torch.ones(12, dtype=torch.int64)
        w["proj"]["weight"] = torch.ones(7, 5)

    rewrite(folder, break_)
    configure(folder, num_hidden_layers=5, hidden_act="swish", num_attention_heads=5, layer_norm_eps=0)
    with pytest.raises(CheckpointError) as told:
        load_rank_encoder(folder)
    for text in (
        "missing 'bert.encoder.layer.1.output.dense.bias'",
        "'bert.encoder.layer.0.intermediate.dense.bias' has shape (4,), not (10,)",
        "unknown 'bert.embeddings.extra'",
        "'bert.embeddings.LayerNorm.weight' is torch.int64",
        "'cell_proj.weight' has shape (7, 5), not (7, 12)",
        "num_hidden_layers 5, but the weights have 2",
        "hidden_act 'swish'",
        "num_attention_heads 5, which does not divide the width of 12",
        "layer_norm_eps 0",
    ):
        assert text in str(told.value), text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 25426}, "vocab_size 25426, but the weights have 20"),
        ({"vocab_size": ...}, "vocab_size 30522, which it means by leaving it out, but the weights have 20"),
        ({"max_position_embeddings": 2048}, "max_position_embeddings 2048, but the weights have 9"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute' is published and read"),
        ({"model_type": "roberta"}, "model_type 'roberta'"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"num_attention_heads": True}, "num_attention_heads True"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob 1.5"),
        ({"hidden_act": ["relu"]}, "hidden_act"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps 'x'"),
    ],
)
def test_config_that_does_not_fit(folder, change, message):
    configure(folder, **change)
    with pytest.raises(CheckpointError, match=message):
        load_rank_encoder(folder)


def test_untied_weights_are_refused(tmp_path):
    save_rank_encoder(make(), tmp_path / "a", head=True)

    def untie(w):
        w["bert"]["cls.predictions.decoder.weight"] = torch.ones(20, 12)

    rewrite(tmp_path / "a", untie)
    with pytest.raises(CheckpointError, match=r"decoder\.weight' is not .* only tied weights"):
        load_rank_encoder(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cell_bert/config.json", "published layout is a folder with"),
        ("cell_bert/model.safetensors", "neither model.safetensors nor pytorch_model.bin"),
        ("cell_proj.bin", "no file"),
    ],
)
def test_missing_files(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_rank_encoder(folder)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_config(folder, content):
    (folder / "cell_bert" / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_rank_encoder(folder)


def test_something_else_entirely(folder):
    rewrite(folder, lambda w: (w["bert"].clear(), w["bert"].update({"lm_head.weight": torch.ones(2, 2)})))
    with pytest.raises(CheckpointError, match=r"so it is not SToFM's cell encoder: it has 'bert\.lm_head\.weight'"):
        load_rank_encoder(folder)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"mean of its genes \(pooling='mean'\)"):
        save_rank_encoder(make(pooling="mean"), tmp_path / "z")
    with pytest.raises(InputError, match="or scaled features would be read as another"):
        save_rank_encoder(make().scale_features(torch.eye(7)), tmp_path / "z")
    with pytest.raises(InputError, match="float32"):
        save_rank_encoder(make().half(), tmp_path / "a")
    model = make()
    with torch.no_grad():
        model.cell_proj.bias[0] = float("nan")
    with pytest.raises(InputError, match=r"'cell_proj\.bias' of the model"):
        save_rank_encoder(model, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").touch()
    with pytest.raises(InputError, match="already has content"):
        save_rank_encoder(make(), tmp_path / "b")
    assert not (tmp_path / "a").exists()
