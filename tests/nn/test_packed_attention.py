from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.nn import packed_attention as module
from stgraph.nn.packed_attention import SequenceGroups, packed_attention


def one_by_one(query, key, value, offsets, key_offsets=None):
    """Softmax of one sequence after another."""
    key_offsets = offsets if key_offsets is None else key_offsets
    outs = []
    for (a, b), (c, d) in zip(pairwise(offsets.tolist()), pairwise(key_offsets.tolist()), strict=True):
        logits = torch.einsum("qhd,khd->hqk", query[a:b], key[c:d]) / query.shape[-1] ** 0.5
        outs.append(torch.einsum("hqk,khd->qhd", logits.softmax(-1), value[c:d]))
    return torch.cat([query[:0], *outs])


def offsets_of(lengths):
    return torch.tensor([0, *lengths]).cumsum(0)


def draw(lengths, key_lengths=None, heads=2, width=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    totals = [sum(lengths)] + 2 * [sum(lengths if key_lengths is None else key_lengths)]
    return [torch.randn(total, heads, width, generator=generator, dtype=dtype) for total in totals]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_equals_one_softmax_for_each_sequence(pairs):
    lengths, key_lengths = [a for a, _ in pairs], [b for _, b in pairs]
    x = draw(lengths)
    offsets = offsets_of(lengths)
    torch.testing.assert_close(packed_attention(*x, offsets), one_by_one(*x, offsets))
    x = draw(lengths, key_lengths)
    keys = offsets_of(key_lengths)
    torch.testing.assert_close(packed_attention(*x, offsets, keys), one_by_one(*x, offsets, keys))


def test_queries_without_keys_get_zeros():
    out = packed_attention(*draw([2, 1], [0, 3]), offsets_of([2, 1]), offsets_of([0, 3]))
    assert torch.equal(out[:2], torch.zeros(2, 2, 4, dtype=torch.float64))
    assert (out[2] != 0).all()


def test_sequences_do_not_see_each_other():
    lengths = [3, 1, 3, 5]
    q, k, v = draw(lengths)
    offsets = offsets_of(lengths)
    before = packed_attention(q, k, v, offsets)
    k[4:7] += 5.0
    v[4:7] += 5.0
    changed = (packed_attention(q, k, v, offsets) != before).flatten(1).any(1)
    assert changed.tolist() == [4 <= i < 7 for i in range(12)]


@pytest.mark.parametrize("key_lengths", [None, [1, 3, 0, 2, 1]], ids=["self", "cross"])
def test_gradients(key_lengths):
    lengths = [2, 0, 3, 1, 2]
    x = [tensor.requires_grad_() for tensor in draw(lengths, key_lengths, heads=1, width=2)]
    keys = None if key_lengths is None else offsets_of(key_lengths)
    assert torch.autograd.gradcheck(lambda *x: packed_attention(*x, offsets_of(lengths), keys), x)


@pytest.mark.parametrize("at_once", [1 << 20, 20], ids=["whole groups", "one sequence at a time"])
def test_dropout_keeps_the_mean_and_drops_something(monkeypatch, at_once):
    monkeypatch.setattr(module, "_WEIGHTS_AT_ONCE", at_once)
    lengths = [3, 5, 3]
    q, k, v = draw(lengths)
    whole = packed_attention(q, k, v, offsets_of(lengths))
    torch.manual_seed(0)
    draws = torch.stack([packed_attention(q, k, v, offsets_of(lengths), dropout=0.2) for _ in range(600)])
    error = (draws.mean(0) - whole).abs() / (draws.std(0) / 600**0.5)
    assert (draws.std(0) > 0).all()
    assert error.max() < 4.5
    torch.manual_seed(0)
    assert torch.equal(packed_attention(q, k, v, offsets_of(lengths), dropout=0.2), draws[0])


@pytest.mark.parametrize("at_once", [1 << 20, 1])
def test_dropout_has_the_gradient_of_what_was_kept(monkeypatch, at_once):
    monkeypatch.setattr(module, "_WEIGHTS_AT_ONCE", at_once)
    lengths = [3, 2, 3]
    q, k, v = (tensor.requires_grad_() for tensor in draw(lengths, heads=1, width=2))

    def dropped(*x):
        torch.manual_seed(3)
        return packed_attention(*x, offsets_of(lengths), dropout=0.2)

    assert not torch.allclose(dropped(q, k, v), packed_attention(q, k, v, offsets_of(lengths)))
    assert torch.autograd.gradcheck(dropped, (q, k, v))


def test_high_rates_are_torchs_own():
    lengths = [3, 5, 3]
    q, k, v = draw(lengths)
    torch.manual_seed(0)
    draws = torch.stack([packed_attention(q, k, v, offsets_of(lengths), dropout=0.6) for _ in range(600)])
    error = (draws.mean(0) - packed_attention(q, k, v, offsets_of(lengths))).abs() / (draws.std(0) / 600**0.5)
    assert error.max() < 4.5


def test_groups_are_one_product_for_each_length():
    groups = SequenceGroups.of(offsets_of([2, 7, 2, 0, 2]))
    assert groups.sizes == ((1, 0, 0), (3, 2, 2), (1, 7, 7))
    assert groups.order.tolist() == [0, 1, 9, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8]
    x = torch.arange(13)
    assert torch.equal(groups.scatter(groups.gather(x)), x)
    # Equal lengths side by side need no copy.
    assert SequenceGroups.of(offsets_of([1, 2, 2, 6])).order is None
    assert SequenceGroups.of(torch.tensor([0])).sizes == ()


def test_half_precision():
    lengths = [4, 9, 4]
    x = draw(lengths, dtype=torch.float32)
    offsets = offsets_of(lengths)
    half = packed_attention(*(tensor.bfloat16() for tensor in x), offsets)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), one_by_one(*x, offsets), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(offsets=torch.tensor([0, 3, 2, 5])), "ascend from 0"),
        (lambda a: a.update(offsets=torch.tensor([1, 5])), "ascend from 0"),
        (lambda a: a.update(offsets=torch.tensor([[0, 5]])), "ascend from 0"),
        (lambda a: a.update(offsets=torch.tensor([0, 4])), "end at 4 queries and 4 keys, but there are 5 and 5"),
        (lambda a: a.update(key_offsets=torch.tensor([0, 2, 3, 5])), "2 sequences of queries, and 3 of keys"),
        (lambda a: a.update(key_offsets=torch.tensor([0, 2, 6])), "end at 5 queries and 6 keys"),
        (lambda a: a.update(value=torch.ones(5, 2, 3)), "needs query"),
        (lambda a: a.update(query=torch.ones(5, 8)), "needs query"),
        (lambda a: a.update(dropout=1.0), "dropout must be"),
    ],
)
def test_bad_input(change, message):
    q, k, v = draw([2, 3], dtype=torch.float32)
    arguments = {"query": q, "key": k, "value": v, "offsets": torch.tensor([0, 2, 5]), "dropout": 0.0}
    change(arguments)
    with pytest.raises(ValueError, match=message):
        packed_attention(**arguments)
