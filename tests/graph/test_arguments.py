import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius, RadiusByDegree
from stgraph.graph.hierarchy import Hierarchical
from stgraph.graph.joining import BridgeIsolated
from stgraph.graph.pruning import MaxLength, MaxNeighbors
from stgraph.graph.stofm_virtual_cells import SToFMVirtualCells
from stgraph.graph.virtual_cells import JointLeiden


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: KNN(2.5), "KNN needs a whole number as n_neighbors, not 2.5"),
        (lambda: KNN("5"), "KNN needs a whole number as n_neighbors, not '5'"),
        (lambda: KNN(True), "KNN needs a whole number as n_neighbors, not True"),
        (lambda: KNN(0), "KNN needs n_neighbors of at least 1, not 0"),
        (lambda: Radius("5"), "Radius needs a positive radius in microns, not '5'"),
        (lambda: Radius(float("inf")), "Radius needs a positive radius in microns, not inf"),
        (lambda: RadiusByDegree(None), "RadiusByDegree needs a positive mean_degree, not None"),
        (lambda: MaxLength(-1.0), "MaxLength needs a positive max_length in microns, not -1.0"),
        (lambda: MaxNeighbors(1.5), "MaxNeighbors needs a whole number as max_neighbors, not 1.5"),
        (lambda: BridgeIsolated([1]), r"BridgeIsolated needs a whole number as n_neighbors, not \[1\]"),
        (lambda: JointLeiden(max_virtual=2.5), "JointLeiden needs a whole number as max_virtual, not 2.5"),
        (lambda: JointLeiden(random_state=-1), "JointLeiden needs random_state of at least 0, not -1"),
        (lambda: JointLeiden(resolution=float("inf")), "JointLeiden needs a positive resolution, not inf"),
        (lambda: JointLeiden(n_iterations=-5), "JointLeiden needs a positive n_iterations, or -1"),
        (lambda: SToFMVirtualCells(n_neighbors=1), "SToFMVirtualCells needs n_neighbors of at least 2, not 1"),
        (lambda: Hierarchical(max_coarse=8), "Hierarchical needs a list of whole numbers as max_coarse, .* not 8"),
        (lambda: Hierarchical(n_neighbors=0), "Hierarchical needs n_neighbors of at least 1, not 0"),
    ],
)
def test_no_sensible_number(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_numbers_of_numpy_will_do():
    assert KNN(np.int64(3)).n_neighbors == 3
    assert Radius(np.float32(3.5)).radius == 3.5
