import sys

import numpy as np
import pytest

from stgraph._config import instantiate, to_config
from stgraph.data.torch_cluster_search import TorchClusterSearch
from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius, RadiusByDegree
from stgraph.graph.neighborhoods import neighborhoods
from stgraph.graph.search import KDTreeSearch
from stgraph.testing.builders import GraphBuilderContract


@pytest.fixture
def _native():
    pytest.importorskip("torch_cluster", reason="torch-cluster is not installed: make native")


@pytest.mark.usefixtures("_native")
class TestKNNByTorchClusterContract(GraphBuilderContract):
    make = staticmethod(lambda: KNN(6, search=TorchClusterSearch()))


@pytest.mark.usefixtures("_native")
class TestRadiusByTorchClusterContract(GraphBuilderContract):
    make = staticmethod(lambda: Radius(30.0, search=TorchClusterSearch()))


def _array(spacing, angle):
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), -1).reshape(-1, 2) * spacing
    return grid @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).T


RNG = np.random.default_rng(0)
POSITIONS = {
    "random": RNG.uniform(0, 300, (1000, 2)),
    "clustered": RNG.normal(0, 2, (1000, 2)) + RNG.uniform(-1000, 1000, (10, 2)).repeat(100, axis=0),
    "array": _array(10.0, 0.0),
    "turned array": _array(10.0, 0.3),
    "coincident": RNG.integers(0, 8, (1000, 2)) * 10.0,
    "far away": RNG.uniform(0, 300, (1000, 2)) - 1e6,
    "array far away": _array(10.0, 0.3) + 1e6,
    "tiny": RNG.uniform(0, 3e-4, (1000, 2)),
}
BUILDERS = [
    lambda search: KNN(7, search=search),
    lambda search: KNN(18, symmetric=False, search=search),
    lambda search: KNN(120, search=search),
    lambda search: Radius(10.0, search=search),
    lambda search: Radius(100.0, search=search),
    lambda search: RadiusByDegree(12.0, search=search),
]


@pytest.mark.usefixtures("_native")
@pytest.mark.parametrize("place", POSITIONS)
@pytest.mark.parametrize("make", BUILDERS)
def test_the_graph_is_that_of_scipy_to_the_bit(place, make):
    theirs, ours = make(TorchClusterSearch())(POSITIONS[place]), make(KDTreeSearch())(POSITIONS[place])
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name))
        assert getattr(theirs, name).dtype == getattr(ours, name).dtype


@pytest.mark.usefixtures("_native")
@pytest.mark.parametrize("place", POSITIONS)
def test_neighborhoods_are_those_of_scipy_to_the_bit(place):
    theirs = neighborhoods(POSITIONS[place], 16, search=TorchClusterSearch())
    ours = neighborhoods(POSITIONS[place], 16)
    np.testing.assert_array_equal(theirs.index, ours.index)
    np.testing.assert_array_equal(theirs.distance, ours.distance)


@pytest.mark.usefixtures("_native")
def test_no_cap_on_the_neighbours():
    """One dense place among sparse ones: only its cells are asked for more."""
    pos = np.concatenate([np.zeros((700, 2)), np.arange(1, 300)[:, None] * [50.0, 0.0]])
    degree = np.diff(Radius(1.0, search=TorchClusterSearch())(pos).indptr)
    assert set(degree[:700]) == {699}
    assert set(degree[700:]) == {0}


@pytest.mark.usefixtures("_native")
def test_no_cells():
    found = TorchClusterSearch().within(np.zeros((0, 2)), 1.0)
    assert found.start.tolist() == [0]
    assert len(found.order) == len(found.neighbors) == 0


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_cluster", None)
    builder = KNN(3, search=TorchClusterSearch())
    with pytest.raises(InputError, match=r"package torch-cluster .* extra 'native': make native, or pip install"):
        builder(POSITIONS["random"])
    with pytest.raises(InputError, match="torch-cluster"):
        Radius(3.0, search=TorchClusterSearch())(POSITIONS["random"])


def test_devices(monkeypatch):
    with pytest.raises(InputError, match="'abacus' is no device"):
        TorchClusterSearch("abacus")
    monkeypatch.setitem(sys.modules, "torch_cluster", type(sys)("torch_cluster"))
    sys.modules["torch_cluster"].knn = None
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU for device 'cuda'"):
        TorchClusterSearch("cuda").nearest(POSITIONS["random"], 3)


def test_config_round_trip():
    builder = KNN(3, search=TorchClusterSearch("cuda:1"))
    assert instantiate(to_config(builder)) == builder
