import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stgraph.training.optim import adamw, share_of_lr, warmup_cosine, warmup_linear


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@given(warmup=st.integers(0, 50), steps=st.integers(1, 500))
def test_up_then_down_between_zero_and_one(schedule, warmup, steps):
    share = [share_of_lr(schedule, step, warmup, steps) for step in range(steps)]
    assert all(0 <= s <= 1 for s in share)
    assert share[0] > 0
    top = min(warmup, steps)
    assert share[:top] == sorted(share[:top])
    assert share[top:] == sorted(share[top:], reverse=True)


def test_the_ways_down():
    assert [warmup_linear(step, 500, 10_500) for step in (0, 499, 500, 5500, 10_500)] == [1 / 500, 1, 1, 0.5, 0]
    assert share_of_lr("linear", 700, 500, 1500) == warmup_linear(700, 500, 1500) == 0.8
    assert share_of_lr("cosine", 700, 500, 1500) == warmup_cosine(700, 500, 1500) != 0.8


def test_matrices_decay():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Embedding(4, 5))
    matrices, others = adamw(module, lr=0.1, weight_decay=0.5).param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert [tuple(p.shape) for p in matrices["params"]] == [(3, 2), (4, 5)]
    assert [tuple(p.shape) for p in others["params"]] == [(3,), (3,), (3,)]
