"""The vector instructions, against numpy and torch; halves as the kernels see them."""

import numpy as np
import pytest
import torch
from numba import njit

from stgraph.nn.edge_attention.fused_cpu_kernels import exponential
from stgraph.nn.edge_attention.vectors import add_scaled, dot, put_scaled

TYPES = {torch.float32: np.float32, torch.bfloat16: np.uint16, torch.float16: np.int16}


def stored(tensor):
    """Numpy's view of a tensor, with the integers that stand for halves."""
    return tensor.view({2: torch.int16, 4: torch.float32}[tensor.element_size()]).numpy().view(TYPES[tensor.dtype])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [1, 2, 3, 8, 31, 77])
def test_sums_and_products_at_any_place(dtype, width):
    @njit
    def run(a, b, total, target):
        add_scaled(total, 2, np.float32(0.5), b, 3, width)
        put_scaled(target, 1, np.float32(-1.5), total, 2, width)
        return dot(a, 5, b, 3, width)

    generator = torch.Generator().manual_seed(width)
    a, b, target = (torch.randn(width + 8, generator=generator).to(dtype) for _ in range(3))
    total = torch.randn(width + 8, generator=generator)
    expected_total, expected_target = total.clone(), target.clone()
    expected_total[2 : 2 + width] += 0.5 * b[3 : 3 + width].float()
    expected_target[1 : 1 + width] = (-1.5 * expected_total[2 : 2 + width]).to(dtype)
    found = run(stored(a), stored(b), total.numpy(), stored(target))
    product = float(a[5 : 5 + width].double() @ b[3 : 3 + width].double())
    assert found == pytest.approx(product, rel=1e-5, abs=1e-5)
    torch.testing.assert_close(total, expected_total, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(target, expected_target)
    assert torch.equal(target[[0, *range(1 + width, width + 8)]], expected_target[[0, *range(1 + width, width + 8)]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_that_of_torch(dtype):
    @njit
    def run(target, x):
        for i in range(len(x)):
            put_scaled(target, i, np.float32(1), x, i, 1)

    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (20_000,), generator=generator, dtype=torch.int64).to(torch.int32)
    halfway = torch.arange(200).float().to(dtype).float() + 2.0**-9  # ties and their neighbours
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 65504.0, 65520.0, 3.4e38, 1e-45, 6e-8, -1e-40])
    x = torch.cat([bits.view(torch.float32), halfway, special])
    target = torch.empty(len(x), dtype=dtype)
    run(stored(target), x.numpy())
    torch.testing.assert_close(target, x.to(dtype), rtol=0, atol=0, equal_nan=True)


def test_exponential_to_the_last_bits():
    @njit
    def run(x, y):
        for i in range(len(x)):
            y[i] = exponential(x[i])

    x = np.concatenate([np.linspace(-86.99, 0, 100_001), [-1e-8, -1e-30]]).astype(np.float32)
    y = np.empty_like(x)
    run(x, y)
    np.testing.assert_allclose(y, np.exp(x.astype(np.float64)), rtol=3e-7)
    assert y[-3] == 1
    run(np.array([-np.inf, -87.01, -1e30, -3e38], np.float32), y[:4])
    assert (y[:4] == 0).all()


def test_two_widths_in_one_function():
    """Numba looks code up by the types of arguments, so the width must be one of them."""

    @njit
    def of_both(a, b, total, target):
        add_scaled(total, 0, np.float32(1), a, 0, 8)
        add_scaled(total, 8, np.float32(1), a, 8, 4)
        put_scaled(target, 0, np.float32(1), a, 0, 8)
        put_scaled(target, 8, np.float32(1), a, 8, 4)
        return dot(a, 0, b, 0, 8), dot(a, 0, b, 0, 4)

    a, b = np.arange(16, dtype=np.float32), np.ones(16, dtype=np.float32)
    total, target = np.zeros(16, np.float32), np.zeros(16, np.float32)
    assert of_both(a, b, total, target) == (28.0, 6.0)
    expected = np.where(np.arange(16) < 12, a, 0)
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_array_equal(target, expected)
