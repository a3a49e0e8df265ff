"""Embeddings to spatial domains, with labels that mean the same in every slice."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from stgraph.baselines.neighbor_mean import neighbor_mean
from stgraph.errors import InputError


class DomainFinder(Protocol):
    """Clusters the embeddings of all slices of a study together.

    Attributes
    ----------
    n_domains
        Number of domains.
    """

    n_domains: int

    def fit(self, embeddings: Sequence[NDArray[np.floating]], positions: Sequence[NDArray[np.float64]]) -> Self:
        """Learn the domains from the embeddings (N, C) and positions (N, 2) of each slice."""
        ...

    def predict(self, embedding: NDArray[np.floating], pos: NDArray[np.float64]) -> NDArray[np.int64]:
        """Domain of each cell of one slice, 0 to ``n_domains - 1``."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave."""
        ...


@dataclass
class MixtureDomains:
    """A Gaussian mixture with one shared covariance on smoothed principal components.

    The embedding is averaged over each cell and its nearest cells, reduced to principal
    components, and clustered over all slices together. The shared covariance makes
    clusters of unequal size possible without letting one swallow its neighbours; the
    likelihood picks the best of several starts.

    Parameters
    ----------
    n_domains
        Number of domains.
    n_neighbors
        Nearest cells an embedding is averaged over, beside the cell; 0 for none.
    n_components
        Principal components that are clustered.
    n_init
        Starts; the likeliest result is kept.
    random_state
        Seed of the starts.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.domains import MixtureDomains
    >>> rng = np.random.default_rng(0)
    >>> side = np.repeat([0.0, 9.0], 50)[:, None]
    >>> x, pos = side + rng.normal(size=(100, 4)), side + rng.normal(size=(100, 2))
    >>> np.bincount(MixtureDomains(n_domains=2).fit([x], [pos]).predict(x, pos)).tolist()
    [50, 50]
    """

    n_domains: int = 8
    n_neighbors: int = 6
    n_components: int = 10
    n_init: int = 10
    random_state: int = 0
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.n_domains, self.n_components, self.n_init) < 1 or self.n_neighbors < 0:
            raise InputError(
                "MixtureDomains needs positive n_domains, n_components and n_init, and n_neighbors not negative."
            )

    def fit(self, embeddings: Sequence[NDArray[np.floating]], positions: Sequence[NDArray[np.float64]]) -> Self:
        """Find the domains.

        Parameters
        ----------
        embeddings, positions
            (N, C) and (N, 2) of each slice.

        Returns
        -------
        MixtureDomains
            Itself.

        Raises
        ------
        InputError
            If there are fewer cells than domains.
        """
        smooth = [self._smooth(x, pos) for x, pos in zip(embeddings, positions, strict=True)]
        x = np.concatenate(smooth)
        if len(x) < self.n_domains:
            raise InputError(f"{len(x)} cells cannot be split into {self.n_domains} domains: ask for fewer.")
        mean = x.mean(axis=0)
        _, singular, axes = np.linalg.svd(x - mean, full_matrices=False)
        solid = singular > max(singular[0], 1e-300) * 1e-6
        axes = axes[: max(1, min(self.n_components, int(solid.sum())))]
        reduced = (x - mean) @ axes.T
        mixture = fit_mixture(reduced, self.n_domains, n_init=self.n_init, random_state=self.random_state)
        # Domain 0 is the largest, so that numbers mean something and do not depend on the start.
        sizes = np.bincount(mixture.predict(reduced), minlength=self.n_domains)
        order = np.argsort(-sizes, kind="stable")
        self._arrays = {
            "mean": mean,
            "axes": axes,
            "centers": mixture.means_[order],
            "precision_cholesky": mixture.precisions_cholesky_,
            "log_weights": np.log(mixture.weights_[order]),
        }
        return self

    def predict(self, embedding: NDArray[np.floating], pos: NDArray[np.float64]) -> NDArray[np.int64]:
        """Domain of each cell.

        Parameters
        ----------
        embedding, pos
            (N, C) and (N, 2) of one slice.

        Returns
        -------
        ndarray
            (N,) int64, 0 for the largest domain of the study.
        """
        if not self._arrays:
            raise InputError("The domains were not fitted: call fit(embeddings, positions) first.")
        a = self._arrays
        whitened = (self._smooth(embedding, pos) - a["mean"]) @ a["axes"].T @ a["precision_cholesky"]
        centers = a["centers"] @ a["precision_cholesky"]
        score = whitened @ centers.T - 0.5 * (centers**2).sum(axis=1) + a["log_weights"]
        return np.asarray(score.argmax(axis=1), dtype=np.int64)

    def _smooth(self, x: NDArray[np.floating], pos: NDArray[np.float64]) -> NDArray[np.float64]:
        return neighbor_mean(x, pos, n_neighbors=self.n_neighbors + 1)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        return dict(self._arrays)

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave."""
        needed = {"mean", "axes", "centers", "precision_cholesky", "log_weights"}
        if set(state) != needed:
            raise InputError(f"The state of MixtureDomains must hold {sorted(needed)}, not {sorted(state)}.")
        self._arrays = dict(state)
        return self


def fit_mixture(x: NDArray[np.floating], n_domains: int, *, n_init: int = 10, random_state: int = 0) -> GaussianMixture:
    """Gaussian mixture with a shared covariance, the best of several starts.

    Parameters
    ----------
    x
        (N, C).
    n_domains, n_init, random_state
        As in `MixtureDomains`.

    Returns
    -------
    GaussianMixture
        Fitted.
    """
    mixture = GaussianMixture(
        n_domains,
        covariance_type="tied",
        n_init=n_init,
        random_state=random_state,
        reg_covar=1e-6,
        max_iter=300,
    )
    with warnings.catch_warnings():
        # Fewer distinct points than domains, or a start that is still creeping: the result stands.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(x)
    return mixture
