"""Descriptions to clusters at a given number, over all slices of a study together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.tasks.domains import DomainFinder, MixtureDomains, fit_mixture

Arrays = Mapping[str, NDArray[np.floating]]
"""By slice, (N, C) descriptions."""

Positions = Mapping[str, NDArray[np.float64]]
"""By slice, (N, 2) positions."""

Labels = dict[str, NDArray[np.int64]]
"""By slice, (N,) clusters; a cluster has the same number in all slices."""


class Clusterer(Protocol):
    """Clusters the cells of all slices of a study at a given number of domains.

    Attributes
    ----------
    name
        Name in tables.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  as above

    def __call__(self, embeddings: Arrays, positions: Positions, n_domains: int, *, random_state: int = 0) -> Labels:
        """Cluster of each cell, 0 to ``n_domains - 1``.

        Parameters
        ----------
        embeddings
            (N, C) by slice.
        positions
            (N, 2) by slice, the same slices.
        n_domains
            How many clusters to find in all slices together.
        random_state
            Seed.
        """
        ...


@dataclass(frozen=True)
class KMeansClusters:
    """K-means: round clusters of like size.

    Descriptions are taken as they are scaled.

    Parameters
    ----------
    n_init
        Starts; the one with the least squares is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.clusterers import KMeansClusters
    >>> x = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> labels = KMeansClusters()({"a": x}, {"a": np.zeros((4, 2))}, 2)["a"]
    >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
    True
    """

    n_init: int = 10

    def __post_init__(self) -> None:
        check_whole(self, "n_init")

    @property
    def name(self) -> str:
        """Name in tables."""
        return "kmeans"

    def __call__(self, embeddings: Arrays, positions: Positions, n_domains: int, *, random_state: int = 0) -> Labels:
        """Cluster of each cell; see `Clusterer`. Positions are not looked at."""
        x = stacked(embeddings, n_domains)
        means = KMeans(n_domains, n_init=self.n_init, random_state=random_state)
        # Sums of several threads are added up in any order, and clusters would differ from run to run.
        with threadpool_limits(1, "openmp"):
            labels = means.fit_predict(x)
        return by_slice(labels, embeddings)


@dataclass(frozen=True)
class MixtureClusters:
    """A Gaussian mixture with one covariance for all clusters: `stgraph.tasks.domains.fit_mixture`.

    The strongest of the usual clusterings on neighbour means: clusters may be of unequal
    size, how the columns are scaled does not matter, and none swallows the others as with
    a covariance each.

    Parameters
    ----------
    n_init
        Starts; the likeliest is kept.
    max_cells
        Cells that the mixture is fitted on, drawn at random where there are more; all are
        given their cluster. None for no limit.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.clusterers import MixtureClusters
    >>> x = np.random.default_rng(0).normal(size=(100, 2)) + np.repeat([0, 9], 50)[:, None]
    >>> np.bincount(MixtureClusters()({"a": x}, {"a": x}, 2)["a"]).tolist()
    [50, 50]
    """

    n_init: int = 5
    max_cells: int | None = 20_000

    def __post_init__(self) -> None:
        check_whole(self, "n_init")
        if self.max_cells is not None:
            check_whole(self, "max_cells", 2)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "mixture"

    def __call__(self, embeddings: Arrays, positions: Positions, n_domains: int, *, random_state: int = 0) -> Labels:
        """Cluster of each cell; see `Clusterer`. Positions are not looked at."""
        x = stacked(embeddings, n_domains)
        drawn = drawn_cells(len(x), self.max_cells, n_domains, random_state)
        mixture = fit_mixture(x[drawn], n_domains, n_init=self.n_init, random_state=random_state)
        return by_slice(mixture.predict(x), embeddings)


@dataclass(frozen=True)
class FinderClusters:
    """What finds the domains of a model, as `stgraph.fit` writes them: ours smooths in space first.

    Parameters
    ----------
    finder
        It stays as it is: one like it is fitted, with the number of domains that is asked
        for, and with the seed if it has a ``random_state``.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.clusterers import FinderClusters
    >>> x = np.random.default_rng(0).normal(size=(100, 2)) + np.repeat([0, 9], 50)[:, None]
    >>> np.bincount(FinderClusters()({"a": x}, {"a": x}, 2)["a"]).tolist()
    [50, 50]
    """

    finder: DomainFinder = field(default_factory=MixtureDomains)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "domains"

    def __call__(self, embeddings: Arrays, positions: Positions, n_domains: int, *, random_state: int = 0) -> Labels:
        """Cluster of each cell; see `Clusterer`."""
        stacked(embeddings, n_domains)
        config = to_config(self.finder) | {"n_domains": n_domains}
        if "random_state" in config:
            config["random_state"] = random_state
        finder: DomainFinder = instantiate(config)
        finder.fit(list(embeddings.values()), [positions[name] for name in embeddings])
        return {name: finder.predict(x, positions[name]) for name, x in embeddings.items()}


def stacked(embeddings: Arrays, n_domains: int) -> NDArray[np.float64]:
    """The descriptions of all slices, one below the other.

    Raises
    ------
    InputError
        If they are not finite, have different widths, or are fewer than ``n_domains``.
    """
    widths = {name: x.shape[1:] for name, x in embeddings.items()}
    if len(set(widths.values())) != 1:
        raise InputError(f"The descriptions of all slices must have the same columns, not {widths}.")
    x = np.concatenate([np.asarray(x, dtype=np.float64) for x in embeddings.values()])
    if not np.isfinite(x).all():
        raise InputError(f"{int((~np.isfinite(x).all(axis=1)).sum())} cells have descriptions that are not finite.")
    if not 1 <= n_domains <= len(x):
        raise InputError(f"{len(x)} cells cannot be split into {n_domains} domains: ask for fewer.")
    return x


def by_slice(labels: NDArray[np.integer], embeddings: Arrays) -> Labels:
    """Labels of stacked cells, slice by slice."""
    ends = np.cumsum([len(x) for x in embeddings.values()])[:-1]
    parts = np.split(np.asarray(labels, dtype=np.int64), ends)
    return dict(zip(embeddings, parts, strict=True))


def drawn_cells(n_cells: int, max_cells: int | None, n_domains: int, random_state: int) -> NDArray[np.int64]:
    """Rows of the cells that are clustered where not all are, in order."""
    if max_cells is None or n_cells <= max_cells:
        return np.arange(n_cells)
    size = max(max_cells, n_domains)
    drawn = np.random.default_rng(random_state).choice(n_cells, size=size, replace=False)
    return np.sort(drawn)
