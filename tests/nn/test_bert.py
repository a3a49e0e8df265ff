from itertools import pairwise

import pytest
import torch

from stgraph.errors import InputError
from stgraph.nn.bert import BertEncoder, BertLayer

LENGTHS = [3, 1, 7, 3, 12, 2]


def make(**options):
    torch.manual_seed(0)
    encoder = BertEncoder(20, 12, 2, 3, 18, max_positions=12, **options)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return encoder.eval()


def ragged(lengths=LENGTHS):
    tokens = torch.randint(0, 20, (sum(lengths),), generator=torch.Generator().manual_seed(1))
    return tokens, torch.tensor([0, *lengths]).cumsum(0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_equals_hugging_face_on_ragged_batches(activation):
    transformers = pytest.importorskip("transformers")
    encoder = make(activation=activation)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=18,
        max_position_embeddings=12, hidden_act=activation,
    )  # fmt: skip
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    theirs.load_state_dict(encoder.state_dict())
    tokens, offsets = ragged()
    padded = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    padded[mask] = tokens
    with torch.no_grad():
        expected = theirs(input_ids=padded, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(encoder(tokens, offsets), expected[mask], atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder.first(tokens, offsets), expected[:, 0], atol=1e-5, rtol=0)


def test_sequences_are_told_apart_and_tokens_are_in_order():
    encoder = make()
    tokens, offsets = ragged()
    whole = encoder(tokens, offsets)
    for a, b in pairwise(offsets.tolist()):
        torch.testing.assert_close(whole[a:b], encoder(tokens[a:b], torch.tensor([0, b - a])), atol=1e-5, rtol=1e-5)
    turned = tokens.clone()
    turned[4:11] = tokens[4:11].flip(0)
    assert not torch.allclose(encoder(turned, offsets)[4:11], whole[4:11].flip(0), atol=1e-2)


def test_first_is_the_first_state_with_the_same_gradient():
    tokens, offsets = ragged()
    found = []
    for which in ("forward", "first"):
        encoder = make().double()
        states = encoder(tokens, offsets)[offsets[:-1]] if which == "forward" else encoder.first(tokens, offsets)
        (states**2).sum().backward()
        found.append([states, *(p.grad for p in encoder.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_empty_sequences_are_left_out_of_states_and_refused_where_the_first_is_asked_for():
    encoder = make()
    tokens, offsets = ragged([2, 0, 3])
    torch.testing.assert_close(encoder(tokens, offsets), encoder(tokens, torch.tensor([0, 2, 5])))
    with pytest.raises(InputError, match="Sequence 1 has no tokens"):
        encoder.first(tokens, offsets)
    none = torch.zeros(0, dtype=torch.long)
    assert encoder(none, torch.tensor([0])).shape == (0, 12)
    assert encoder.first(none, torch.tensor([0])).shape == (0, 12)


def test_dropout_in_training_only():
    encoder = make(dropout=0.1, attention_dropout=0.1).train()
    tokens, offsets = ragged()
    torch.manual_seed(0)
    first = encoder(tokens, offsets)
    assert not torch.allclose(first, encoder(tokens, offsets))
    torch.manual_seed(0)
    assert torch.equal(first, encoder(tokens, offsets))
    # Of attention alone, too.
    encoder = make(dropout=0.0, attention_dropout=0.2).train()
    assert not torch.allclose(encoder(tokens, offsets), encoder(tokens, offsets))
    encoder = make(dropout=0.0, attention_dropout=0.0).train()
    assert torch.equal(encoder(tokens, offsets), encoder(tokens, offsets))


def test_too_long_and_unknown():
    encoder = make()
    with pytest.raises(InputError, match=r"has 13 tokens, but the network has 12 positions: tokenize with max_length"):
        encoder(*ragged([2, 13]))
    tokens, offsets = ragged()
    for wrong in (20, -1):
        with pytest.raises(InputError, match="vocabulary is 0 to 19"):
            encoder.first(tokens.index_fill(0, torch.tensor(3), wrong), offsets)


@pytest.mark.parametrize("channels", [32, 192])
def test_starts_as_bert_does_with_matrices_by_their_width(channels):
    torch.manual_seed(0)
    encoder = BertEncoder(400, channels, 2, 4, 64)
    assert not encoder.word_weight[0].any()
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "LayerNorm" in name:
            assert (parameter == 1).all(), name
        else:
            share = 0.25 if "position" in name or "token_type" in name else 1.0
            expected = share * 0.02 * (768 / channels) ** 0.5
            few = parameter.numel() < 1000
            assert float(parameter.detach().std()) == pytest.approx(expected, rel=0.3 if few else 0.1), name


def test_fresh_networks_tell_cells_apart_at_any_width():
    tokens = torch.randint(2, 400, (200,), generator=torch.Generator().manual_seed(0))
    tokens[::20] = 1
    for channels in (32, 256):
        torch.manual_seed(0)
        states = BertEncoder(400, channels, 2, 4, 2 * channels).eval().first(tokens, torch.arange(0, 201, 20))
        assert float(states.detach().std(dim=0).mean() / states.detach().std()) > 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "multiple of heads"),
        ({"vocabulary_size": 0}, "at least 1"),
        ({"dropout": 1.0}, "dropouts from 0"),
        ({"activation": "swish"}, "one of gelu, gelu_new, relu, not 'swish'"),
    ],
)
def test_bad_arguments(options, message):
    sizes = {"vocabulary_size": 9, "channels": 8, "num_layers": 1, "heads": 2, "ffn_channels": 8}
    with pytest.raises(ValueError, match=message):
        BertEncoder(**sizes | options)
    if "heads" in options:
        with pytest.raises(ValueError, match=message):
            BertLayer(8, ffn_channels=4, **options)
