from hypothesis import given
from hypothesis import strategies as st

from stgraph.training.optim import warmup_cosine


@given(st.integers(0, 50), st.integers(1, 500))
def test_up_then_down_between_zero_and_one(warmup, steps):
    share = [warmup_cosine(step, warmup, steps) for step in range(steps)]
    assert all(0 <= s <= 1 for s in share)
    assert share[0] > 0
    top = min(warmup, steps)
    assert share[:top] == sorted(share[:top])
    assert share[top:] == sorted(share[top:], reverse=True)
