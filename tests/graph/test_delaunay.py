import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.delaunay import Delaunay
from stgraph.testing.builders import GraphBuilderContract

SQUARE = np.stack(np.meshgrid(np.arange(12.0), np.arange(15.0)), -1).reshape(-1, 2)
HEX = np.array([[column + 0.5 * (row % 2), row * np.sqrt(3) / 2] for row in range(14) for column in range(12)])


class TestDelaunayContract(GraphBuilderContract):
    make = staticmethod(Delaunay)


class TestDelaunayWithCapContract(GraphBuilderContract):
    make = staticmethod(lambda: Delaunay(max_length=25.0))


def turned(pos, angle=0.7):
    return pos @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def adjacency(near):
    dense = np.zeros(near.shape, dtype=bool)
    dense[np.repeat(np.arange(near.shape[0]), np.diff(near.indptr)), near.indices] = True
    return dense


def room_of_circles(pos):
    """For each pair of places: how far the centre of an empty circle through both may move.

    A circle through a and b has its centre on their bisector; every other cell c forbids
    the centres on one side of a point of it, and all of them if it is between a and b.
    Relative to the length of the pair; negative if there is no empty circle.
    """
    room = np.full((len(pos), len(pos)), np.inf)
    for i, a in enumerate(pos):
        for j, b in enumerate(pos):
            length = np.hypot(*(b - a))
            if length == 0:
                continue
            others = (pos != a).any(axis=1) & (pos != b).any(axis=1)
            local = (pos[others] - (a + b) / 2) / length
            along = local @ (b - a) / length
            up = local @ np.array([a[1] - b[1], b[0] - a[0]]) / length
            outside = along**2 + up**2 - 0.25
            on_line = np.abs(up) < 1e-9
            limit = outside[~on_line] / (2 * up[~on_line])
            below = limit[up[~on_line] > 0].min(initial=np.inf)
            above = limit[up[~on_line] < 0].max(initial=-np.inf)
            room[i, j] = -np.inf if (outside[on_line] < 0).any() else below - above
    return room


numbers = st.integers(2, 24)
coordinates = st.one_of(
    arrays(float, st.tuples(numbers, st.just(2)), elements=st.floats(-1e3, 1e3).map(lambda v: round(v, 3))),
    # Few places for many cells: coincident cells, ties and lines everywhere.
    arrays(float, st.tuples(numbers, st.just(2)), elements=st.integers(0, 4).map(float)),
    # On a line, also a slanted one.
    st.tuples(arrays(float, numbers, elements=st.integers(0, 50).map(float)), st.sampled_from([0.0, 0.5, 1 / 3])).map(
        lambda line: np.outer(line[0], [1.0, line[1]])
    ),
    # Two clusters far apart.
    arrays(float, st.tuples(numbers, st.just(2)), elements=st.floats(0, 1).map(lambda v: round(v, 4))).map(
        lambda pos: pos + np.where(np.arange(len(pos)) % 2, 1e4, 0)[:, None]
    ),
)


@given(coordinates, st.sampled_from([0.0, 0.3, 2.0]))
@example(SQUARE[:60], 0.3)
@example(HEX[:60], 0.3)
@settings(deadline=None)
def test_edges_have_an_empty_circle(pos, angle):
    found = adjacency(Delaunay()(turned(pos, angle)))
    coincident = (pos[:, None] == pos[None]).all(axis=2)
    room = room_of_circles(pos)
    expected = np.where(coincident, True, room >= -1e-6) & ~np.eye(len(pos), dtype=bool)
    # Where four cells are nearly on a circle either answer is right.
    clear = coincident | (np.abs(room) > 1e-6) | (np.abs(room) < 1e-10)
    np.testing.assert_array_equal(found[clear], expected[clear])


@pytest.mark.parametrize(("lattice", "inside"), [(SQUARE, 8), (HEX, 6)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_lattices_have_one_answer(lattice, inside, scale, shift):
    expected = adjacency(Delaunay()(lattice))
    interior = ((lattice > lattice.min(axis=0) + 1) & (lattice < lattice.max(axis=0) - 1)).all(axis=1)
    assert (expected[interior].sum(axis=1) == inside).all()
    # No side longer than a cell of the lattice: nothing spans its straight or its toothed outline but over one cell
    assert Delaunay()(lattice).data.max() < 1.74
    rng = np.random.default_rng(0)
    for angle in (0.0, 0.1, 1.2, np.pi / 3):
        order = rng.permutation(len(lattice))
        near = Delaunay()((turned(lattice[order] * [1, -1], angle) + shift) * scale)
        np.testing.assert_array_equal(adjacency(near), expected[order][:, order])


def test_cells_of_one_place_share_their_neighbours():
    pos = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0], [0.0, 0.0], [9.0, 9.0], [0.0, 0.0]])
    near = Delaunay()(pos)
    found = adjacency(near)
    assert set(np.flatnonzero(found[0])) == {1, 2, 4, 6}
    assert set(np.flatnonzero(found[3])) == {1, 2, 5}
    assert (near.data == 0).sum() == 3 * 2 + 2


@pytest.mark.parametrize(("n", "edges"), [(0, 0), (1, 0), (2, 1)])
def test_fewer_than_a_triangle(n, edges):
    near = Delaunay()(np.arange(2.0 * n).reshape(n, 2))
    assert near.shape == (n, n)
    assert near.nnz == 2 * edges


def test_all_cells_at_one_place():
    near = Delaunay()(np.ones((4, 2)))
    assert near.nnz == 12
    assert (near.data == 0).all()


def test_a_line_is_a_chain():
    step = np.random.default_rng(0).permutation(200) * 0.37
    for angle in (0.0, 0.3):
        near = Delaunay()(turned(np.stack([step, 0 * step], axis=1), angle) + 1e4)
        assert near.nnz == 2 * 199
        np.testing.assert_allclose(near.data, 0.37)


def test_the_cap_cuts_what_is_longer():
    pos = np.random.default_rng(0).uniform(0, 100, (300, 2))
    full, capped = Delaunay()(pos), Delaunay(max_length=8.0)(pos)
    assert full.data.max() > 8
    np.testing.assert_array_equal(adjacency(capped), adjacency(full) & (full.toarray() <= 8))


def test_as_long_as_the_cap_is_not_longer():
    for angle in (0.0, 0.1, 1.2):
        assert Delaunay(max_length=1.0)(turned(SQUARE, angle)).nnz == 2 * (12 * 14 + 11 * 15)


def test_cells_that_differ_by_rounding_stay_in_the_graph():
    pos = np.random.default_rng(0).uniform(0, 100, (200, 2)) + 1e4
    pos[1] = np.nextafter(pos[0], np.inf)
    near = Delaunay()(pos)
    assert np.diff(near.indptr).min() > 0
    assert 1 in near[0].indices


def test_cells_too_close_for_the_size_of_the_slice_are_said():
    rng = np.random.default_rng(0)
    size = np.exp(rng.uniform(np.log(1e-6), np.log(1e6), 2000))
    angle = rng.uniform(0, 2 * np.pi, 2000)
    with pytest.warns(StgraphWarning, match="cells are so close to others.*one place"):
        near = Delaunay()(size[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert np.diff(near.indptr).min() > 0


def test_too_many_cells_on_a_circle():
    angle = np.arange(1100) * 2 * np.pi / 1100
    with pytest.raises(InputError, match=r"1100 cells lie on one circle.*KNN"):
        Delaunay()(np.stack([np.cos(angle), np.sin(angle)], axis=1))


def test_config_and_unit():
    assert not Delaunay().in_microns
    assert Delaunay(max_length=30.0).in_microns
    for builder in (Delaunay(), Delaunay(max_length=30.0)):
        assert instantiate(to_config(builder)) == builder


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_senseless_cap(wrong):
    with pytest.raises(InputError, match="positive max_length"):
        Delaunay(max_length=wrong)
