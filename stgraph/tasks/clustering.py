"""Zero-shot clustering: the domains in a description that has seen no label."""

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from stgraph import _keys
from stgraph.baselines.advice import unguided_view
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.arguments import check_whole
from stgraph.metrics.clustering import clustering_scores, silhouette
from stgraph.metrics.spatial import chaos, pas
from stgraph.tasks.clusterers import (
    Arrays,
    Clusterer,
    FinderClusters,
    KMeansClusters,
    Labels,
    MixtureClusters,
    Positions,
    stacked,
)
from stgraph.tasks.given import check_model, check_slices
from stgraph.tasks.leiden_clusters import LeidenClusters
from stgraph.tasks.result import COLUMNS, TaskResult
from stgraph.tasks.target import Target, label_target
from stgraph.tasks.unlabelled import unlabelled

_PAS_NEIGHBORS = 10


@dataclass(frozen=True)
class Clustering:
    """Cluster descriptions learnt without labels, and compare with an annotation if there is one.

    All slices are described by one fit and clustered together, once for each number of
    domains in their annotations: a slice is scored at its own, as in
    `stgraph.tasks.scoring.score_domains`. Restarts on one description easily differ by
    0.05 to 0.10 in the Rand index, so every score is the mean over several, none of them chosen by a
    score; ``low`` and ``high`` of the table are the least and the greatest of them. This is
    the spread of the clustering, not of the tissue.

    Parameters
    ----------
    key
        Column of ``obs`` with the annotation; None if there is none. It says how many
        domains to look for, unless ``n_domains`` does, and is used for nothing else before
        the scores.
    n_domains
        Number of domains; None for that of the annotation of each slice. A slice without
        annotation is clustered at the number of all slices together.
    clusterers
        What clusters; by default k-means, a Gaussian mixture, Leiden, and what finds the
        domains of our models.
    n_restarts
        Restarts of each clusterer.
    max_components
        Wider descriptions are reduced to so many principal components of all slices
        together, unscaled, before they are clustered.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.clusterers import KMeansClusters
    >>> from stgraph.tasks.clustering import Clustering
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]}
    >>> result = Clustering("domain", clusterers=[KMeansClusters()]).run(slices, LogPCA(n_components=5))
    >>> result.table["metric"].tolist()
    ['ari', 'nmi', 'homogeneity', 'completeness', 'silhouette', 'chaos', 'pas']
    """

    key: str | None = "domain"
    n_domains: int | None = None
    clusterers: Sequence[Clusterer] = (KMeansClusters(), MixtureClusters(), LeidenClusters(), FinderClusters())
    n_restarts: int = 5
    max_components: int = 50

    def __post_init__(self) -> None:
        check_whole(self, "n_restarts")
        check_whole(self, "max_components")
        if self.n_domains is not None:
            check_whole(self, "n_domains", 2)
        elif self.key is None:
            raise InputError("Clustering needs a key with an annotation, or n_domains, to know how many to look for.")
        names = [clusterer.name for clusterer in self.clusterers]
        if not names or len(set(names)) < len(names):
            raise InputError(f"Clustering needs clusterers with names of their own, not {names}.")

    @property
    def name(self) -> str:
        """Name in tables."""
        return "clustering"

    def run(self, slices: Mapping[str, AnnData], model: SliceEncoder, *, random_state: int = 0) -> TaskResult:
        """Describe, cluster, and score.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        model
            What describes cells. A copy of it is fitted on all slices, and sees them
            `stgraph.tasks.unlabelled.unlabelled`.
        random_state
            Seed of the restarts.

        Returns
        -------
        TaskResult
            A row for each slice, clusterer and metric, with further columns ``clusterer`` and
            ``n_domains``. Against the annotation, on the cells that have one: ``ari, nmi,
            homogeneity, completeness``. On all cells: ``silhouette`` in the description (it
            compares clusterings of one description, not descriptions), ``chaos`` and ``pas``
            (low where clusters are continuous). Copies of the slices with the clusters in
            ``obs["stgraph_cluster_CLUSTERER"]``, those of the restart that agrees best with
            the others.

        Raises
        ------
        InputError
            If no slice has the annotation, or descriptions cannot be clustered.
        """
        check_slices(slices)
        check_model(model)
        target = None if self.key is None else label_target(slices, self.key)
        blind = {name: unlabelled(adata) for name, adata in slices.items()}
        encoder = deepcopy(model).fit(list(blind.values()))
        described: dict[str, NDArray[Any]] = {name: encoder.transform(adata) for name, adata in blind.items()}
        columns = unguided_view(encoder)
        described = {name: x[:, columns] for name, x in described.items()}
        notes: list[str] = []
        described = self._reduced(described, notes)
        positions = {name: np.asarray(a.obsm[_keys.SPATIAL], dtype=np.float64) for name, a in slices.items()}
        numbers = self._numbers(slices, target, notes)
        adatas = {name: adata.copy() for name, adata in slices.items()}
        rows: list[dict[str, Any]] = []
        for clusterer in self.clusterers:
            found = {
                n: self._restarts(clusterer, described, positions, n, random_state, notes)
                for n in dict.fromkeys(numbers.values())
            }
            for name, adata in adatas.items():
                restarts = found[numbers[name]]
                scores = [
                    _scores(target, name, restart[name], described[name], positions[name], random_state)
                    for restart in restarts
                ]
                what = {"slice": name, "clusterer": clusterer.name, "n_domains": numbers[name]}
                rows += [self._row(what, metric, [score[metric] for score in scores]) for metric in scores[0]]
                every = [str(domain) for domain in range(numbers[name])]
                shown = _most_like_the_others(restarts)[name].astype(str)
                adata.obs[_keys.CLUSTER.format(clusterer=clusterer.name)] = pd.Categorical(shown, categories=every)
        return TaskResult(pd.DataFrame(rows, columns=[*COLUMNS, "clusterer", "n_domains"]), adatas, notes)

    def _restarts(
        self,
        clusterer: Clusterer,
        described: Arrays,
        positions: Positions,
        n_domains: int,
        random_state: int,
        notes: list[str],
    ) -> list[Labels]:
        # Not the seed plus 0, 1, 2, ...: runs with neighbouring seeds would share most of their restarts.
        seeds = np.random.SeedSequence(random_state).generate_state(self.n_restarts) % 2**31
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", StgraphWarning)
            found = [clusterer(described, positions, n_domains, random_state=int(seed)) for seed in seeds]
        said = [f"{clusterer.name}: {warning.message}" for warning in caught]
        notes += [f"{text} (restarts: {said.count(text)} of {self.n_restarts})" for text in dict.fromkeys(said)]
        return found

    def _row(self, what: Mapping[str, Any], metric: str, scores: Sequence[tuple[float, int]]) -> dict[str, Any]:
        values = [value for value, _ in scores]
        return {
            "task": self.name,
            "target": self.key or "none",
            "split": "none",
            "leaks": False,
            "shift": "none",
            "metric": metric,
            "value": float(np.mean(values)),
            "low": min(values),
            "high": max(values),
            "n_cells": scores[0][1],
            **what,
        }

    def _reduced(self, described: Arrays, notes: list[str]) -> dict[str, NDArray[Any]]:
        x = stacked(described, 1)
        n = min(self.max_components, len(x))
        if x.shape[1] <= n:
            return dict(described)
        notes.append(f"the description has {x.shape[1]} columns; {n} principal components of it were clustered")
        ends = np.cumsum([len(values) for values in described.values()])[:-1]
        parts = np.split(PCA(n, random_state=0).fit_transform(x), ends)
        return dict(zip(described, parts, strict=True))

    def _numbers(self, slices: Mapping[str, AnnData], target: Target | None, notes: list[str]) -> dict[str, int]:
        """How many domains each slice is clustered into."""
        numbers = {}
        for name in slices:
            classes = 0 if target is None else _n_classes(target, name)
            if target is not None and classes < 2:
                notes.append(
                    f"{name} has {classes or 'no'} annotated domain{'s' * (classes != 1)}: not scored against it"
                )
            everywhere = 0 if target is None else len(target.names)
            numbers[name] = self.n_domains or (classes if classes > 1 else everywhere)
        return numbers


def _scores(
    target: Target | None,
    name: str,
    labels: NDArray[np.int64],
    x: NDArray[Any],
    pos: NDArray[np.float64],
    random_state: int,
) -> dict[str, tuple[float, int]]:
    """Each score of one slice, and the number of cells it is of."""
    n = len(labels)
    scores: dict[str, tuple[float, int]] = {}
    if target is not None and _n_classes(target, name) > 1:
        known = target.known(name)
        agreement = clustering_scores(target.of[name][known], labels[known])
        scores |= {metric: (value, int(known.sum())) for metric, value in agreement.items()}
    scores["silhouette"] = silhouette(x, labels, random_state=random_state), n
    scores["chaos"] = chaos(labels, pos), n
    scores["pas"] = (pas(labels, pos) if n > _PAS_NEIGHBORS else float("nan")), n
    return scores


def _n_classes(target: Target, name: str) -> int:
    return len(np.unique(target.of[name][target.known(name)]))


def _most_like_the_others(restarts: Sequence[Labels]) -> Labels:
    """The one to show, chosen without labels."""
    joint = [np.concatenate(list(labels.values())) for labels in restarts]
    agreement = np.array([[adjusted_rand_score(a, b) for b in joint] for a in joint])
    return restarts[int(agreement.sum(axis=1).argmax())]
