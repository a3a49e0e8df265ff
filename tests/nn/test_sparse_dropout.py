import pytest
import torch

from stgraph.nn.sparse_dropout import dropped, sparse_dropout


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.25, 0.6])
def test_each_element_is_dropped_at_the_rate(rate):
    torch.manual_seed(0)
    n, draws = 50, 2000
    count = torch.zeros(n)
    for _ in range(draws):
        count += sparse_dropout(torch.ones(n), rate) == 0
    spread = (draws * rate * (1 - rate)) ** 0.5
    assert ((count - draws * rate).abs() < 4.5 * spread).all()  # the first and the last as often as the others
    assert abs(float(count.sum()) - n * draws * rate) < 4.5 * n**0.5 * spread


def test_elements_are_dropped_independently():
    torch.manual_seed(0)
    gone = torch.stack([sparse_dropout(torch.ones(40), 0.2) == 0 for _ in range(2500)]).double()
    expected = torch.eye(40, dtype=torch.float64)
    torch.testing.assert_close(torch.corrcoef(gone.T), expected, atol=0.1, rtol=0)


def test_places_ascend_and_end_before_n():
    torch.manual_seed(0)
    for n in [1, 2, 10, 1000]:
        for rate in [1e-6, 0.1, 0.25]:
            at = dropped(n, rate)
            assert at.dtype == torch.int64
            assert (at.diff() > 0).all()
            assert len(at) == 0 or (at[0] >= 0 and at[-1] < n)


def test_the_rest_is_scaled_and_the_gradient_is_the_same():
    torch.manual_seed(0)
    x = torch.randn(30, 20, requires_grad=True)
    out = sparse_dropout(x.T, 0.2)  # not contiguous
    gone = out == 0
    torch.testing.assert_close(out, x.T / 0.8 * ~gone)
    out.sum().backward()
    torch.testing.assert_close(x.grad.T, (~gone).float() / 0.8)


def test_same_seed_same_draw():
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append(sparse_dropout(torch.ones(1000), 0.1))
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], sparse_dropout(torch.ones(1000), 0.1))


def test_nothing_happens_outside_of_training():
    x = torch.ones(100)
    assert sparse_dropout(x, 0.2, training=False) is x
    assert sparse_dropout(x, 0.0) is x
    assert sparse_dropout(x[:0], 0.2).shape == (0,)
    assert sparse_dropout(x.bfloat16(), 0.2).dtype == torch.bfloat16
