import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.nn.table_lookup import KnotGrid, cell_bounds, cell_of, table_lookup, torch_lookup


def a_grid(types=3, cells=200, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 9, (types, cells), generator=generator)
    return KnotGrid.from_counts(counts, cell_bounds(cells, torch.zeros((), dtype=dtype)))


def inputs(grid, num_edges, heads=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    dtype = grid.left.dtype
    table = torch.randn(grid.num_rows, heads, generator=generator, dtype=dtype, requires_grad=True)
    distance = torch.rand(num_edges, generator=generator, dtype=dtype) ** 2 * float(grid.left[-1]) * 0.999
    distance[::7] = 0
    edge_type = torch.randint(0, len(grid.first), (num_edges,), generator=generator)
    return table, distance.requires_grad_(), edge_type


def by_interp(table, grid, distance, edge_type):
    """Each head by numpy, from the distances of the knots alone."""
    at, kind = (x.numpy().astype(float) for x in grid.points)
    table, distance = table.detach().numpy(), distance.detach().numpy()
    out = np.empty((len(distance), table.shape[1]))
    for t in range(len(grid.first)):
        rows = np.flatnonzero(kind == t)
        mine = edge_type.numpy() == t
        for h in range(table.shape[1]):
            out[mine, h] = np.interp(distance[mine], at[rows[1:]], table[rows[1:], h])
            out[mine & (distance == 0), h] = table[rows[0], h]
    return torch.from_numpy(out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_is_what_numpy_interpolates(dtype):
    grid = a_grid(dtype=dtype)
    table, distance, edge_type = inputs(grid, 3000)
    found = table_lookup(table, grid, distance, edge_type)
    assert found.dtype == dtype
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9  # the place in an interval is a difference of two distances
    torch.testing.assert_close(
        found.double(), by_interp(table, grid, distance, edge_type), atol=tolerance, rtol=tolerance
    )


@pytest.mark.parametrize("num_edges", [0, 1, 50_000])
def test_compiled_loops_and_torch_agree_in_values_and_gradients(num_edges):
    grid = a_grid()
    table, distance, edge_type = inputs(grid, num_edges)
    weight = torch.randn(num_edges, 5, generator=torch.Generator().manual_seed(2))
    results = []
    for lookup in (table_lookup, torch_lookup):
        out = lookup(table, grid, distance, edge_type)
        results.append((out, *torch.autograd.grad((out * weight).sum(), (table, distance))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-4)


def test_without_edge_types_it_is_that_of_type_zero():
    grid = a_grid(types=1)
    table, distance, edge_type = inputs(grid, 500)
    found = table_lookup(table, grid, distance, None)
    assert torch.equal(found, table_lookup(table, grid, distance, edge_type * 0))
    torch.testing.assert_close(found, torch_lookup(table, grid, distance, None), atol=2e-4, rtol=2e-4)


def test_gradients_are_those_of_differences():
    grid = a_grid(types=2, cells=5, dtype=torch.float64)
    table, _, edge_type = inputs(grid, 12, heads=2)
    # in the middle of intervals, for at a knot the slope is of either side
    at = grid.points[0]
    distance = ((at[2:12] + at[3:13]) / 2).sort().values.clone()
    distance = torch.cat([distance.new_zeros(2), distance])
    kind = torch.cat([edge_type[:2], grid.points[1][2:12]])
    distance[1] = 0.0
    positive = distance[2:].clone().requires_grad_()

    def found(table, positive):
        return table_lookup(table, grid, torch.cat([distance[:2], positive]), kind)

    assert torch.autograd.gradcheck(found, (table, positive), eps=1e-7, atol=1e-5)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    grid = a_grid()
    table, distance, edge_type = inputs(grid, 300_000)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = table_lookup(table, grid, distance, edge_type)
            results.append((out, *torch.autograd.grad(out.square().sum() / 2, (table, distance))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_operators_are_sound():
    grid = a_grid(types=2, cells=20)
    table, distance, edge_type = inputs(grid, 50, heads=3)
    operators = torch.ops.stgraph
    torch.library.opcheck(operators.table_lookup.default, (table, distance, edge_type, grid.first, grid.left))
    torch.library.opcheck(operators.table_lookup.default, (table, distance, None, grid.first, grid.left))
    plain = (table.detach(), distance.detach(), edge_type, grid.first, grid.left, torch.ones(50, 3))
    torch.library.opcheck(operators.table_lookup_backward.default, plain)
    torch.library.opcheck(operators.table_lookup_slopes.default, plain)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1e8, width=32))
def test_every_distance_lies_in_its_cell(distance):
    cell = int(cell_of(torch.tensor(distance)))
    left = cell_bounds(cell + 1, torch.zeros((), dtype=torch.float64))
    slack = 1e-6 * (1 + distance)
    assert left[cell] - slack <= distance < left[cell + 1] + slack


@pytest.mark.parametrize(("wrong", "said"), [(-1.0, "from -1.0"), (torch.nan, "from nan"), (1e4, "to 10000.0")])
def test_distances_outside_are_refused(wrong, said):
    grid = a_grid()
    table, _, _ = inputs(grid, 1)
    with pytest.raises(ValueError, match=said):
        table_lookup(table, grid, torch.tensor([1.0, wrong]), torch.tensor([0, 0]))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_edge_types_outside_are_refused(wrong):
    grid = a_grid()
    table, _, _ = inputs(grid, 1)
    with pytest.raises(ValueError, match="the table has 3"):
        table_lookup(table, grid, torch.ones(2), torch.tensor([0, wrong]))
