"""Leiden's clusters of a weighted graph, in as little memory as its libraries allow."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import igraph
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph.errors import InputError

_ONE_AT_A_TIME = threading.Lock()
"""igraph has one random generator for all threads of a process."""

Flavor = Literal["igraph", "leidenalg"]
"""Which library runs Leiden; igraph's is several times as fast, and the default."""


def leiden(
    graph: sp.spmatrix,
    *,
    resolution: float,
    random_state: int,
    flavor: Flavor = "igraph",
    n_iterations: int = -1,
) -> NDArray[np.int64]:
    """Communities of largest modularity (Traag, Waltman & van Eck, 2019).

    Parameters
    ----------
    graph
        (N, N) symmetric weights, none negative. An entry of the diagonal counts the
        edges inside a node in both directions, as ``S.T @ graph @ S`` gives them for an
        aggregation S, so that the modularity of an aggregated graph is that of the graph.
    resolution
        Of modularity; larger gives more communities.
    random_state
        Seed. With ``"igraph"`` the random numbers are those of ``scanpy.tl.leiden``.
    flavor
        The library: ``"igraph"`` or ``"leidenalg"``.
    n_iterations
        Rounds of Leiden, each of which starts from the last; -1 for as many as improve.

    Returns
    -------
    ndarray
        (N,) int64, community of each node, 0 to V - 1, none empty.

    Raises
    ------
    InputError
        If the flavour is none, or the graph is not square.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.graph.leiden import leiden
    >>> two_triangles = sp.csr_matrix(np.kron(np.eye(2), np.ones((3, 3)) - np.eye(3)))
    >>> leiden(two_triangles, resolution=1.0, random_state=0).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    if flavor not in get_args(Flavor):
        raise InputError(f"Leiden's flavor must be 'igraph' or 'leidenalg', not {flavor!r}.")
    if graph.ndim != 2 or graph.shape[0] != graph.shape[1]:
        raise InputError(f"Leiden needs a square matrix of weights, not one of shape {graph.shape}.")
    n = graph.shape[0]
    if n == 0:
        return np.empty(0, dtype=np.int64)
    edges, weights = _edges(graph)
    if not len(weights):  # Modularity is 0 / 0 without an edge
        return np.arange(n, dtype=np.int64)
    if flavor == "leidenalg":
        membership = _leidenalg(n, edges, weights, resolution, random_state, n_iterations)
    else:
        with _seeded_igraph(random_state):
            membership = _igraph(n, edges, weights, resolution, n_iterations)
    return np.asarray(membership, dtype=np.int64)


def _edges(graph: sp.spmatrix) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(E, 2) each edge once, and its weight in both directions together.

    Modularity does not change with the scale of the weights, but how boldly Leiden refines does: it is
    scanpy's, which has every edge twice. Both libraries take a loop as two ends at one node.
    """
    upper = sp.triu(graph, format="coo")
    weights = np.where(upper.row == upper.col, 1.0, 2.0)
    weights *= upper.data
    return np.stack([upper.row, upper.col], axis=1, dtype=np.int64, casting="safe"), weights


def _igraph(
    n: int, edges: NDArray[np.int64], weights: NDArray[np.float64], resolution: float, n_iterations: int
) -> list[int]:
    loop = edges[:, 0] == edges[:, 1]
    if not loop.any():
        objective: dict[str, Any] = {"objective_function": "modularity", "resolution": resolution}
    else:
        # igraph's Leiden counts a loop wrongly when it moves a node. Without the loops, but with the strengths
        # that they give the nodes, modularity is the Constant Potts Model, up to a constant.
        strength = np.bincount(edges[:, 0], weights, n) + np.bincount(edges[:, 1], weights, n)
        objective = {
            "objective_function": "CPM",
            "node_weights": strength,
            "resolution": resolution / strength.sum(),
        }
        edges, weights = edges[~loop], weights[~loop]
    network = igraph.Graph(n=n, edges=edges)
    return list(network.community_leiden(weights=weights, n_iterations=n_iterations, **objective).membership)


def _leidenalg(
    n: int, edges: NDArray[np.int64], weights: NDArray[np.float64], resolution: float, seed: int, n_iterations: int
) -> list[int]:
    import leidenalg  # noqa: PLC0415 - rarely asked for

    clusters = leidenalg.find_partition(
        igraph.Graph(n=n, edges=edges),
        leidenalg.RBConfigurationVertexPartition,
        weights=weights.tolist(),
        resolution_parameter=resolution,
        n_iterations=n_iterations,
        seed=seed,
    )
    return list(clusters.membership)


@contextmanager
def _seeded_igraph(seed: int) -> Iterator[None]:
    """Lend igraph, which draws from one global generator, a seeded one, and give it its own back."""
    with _ONE_AT_A_TIME:
        igraph.set_random_number_generator(_Generator(seed))
        try:
            yield
        finally:
            igraph.set_random_number_generator(random)


class _Generator:
    """The part of Python's ``random`` that igraph asks for, on numpy's generator, as scanpy has it."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)
        self.random = self._state.random
        self.gauss = self._state.normal

    def getrandbits(self, k: int) -> int:
        return int(self._state.tomaxint()) & ((1 << k) - 1)

    def randint(self, low: int, high: int) -> int:
        return int(self._state.randint(low, high + 1))
