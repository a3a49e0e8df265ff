"""Found domains against annotated ones, beside simple methods. Labels are used for nothing else."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from stgraph import _keys
from stgraph._config import instantiate, to_config
from stgraph.baselines.neighbor_mean import neighbor_mean
from stgraph.errors import InputError
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.domains import DomainFinder, fit_mixture

OURS = "stgraph"
PCA = "PCA"
NEIGHBOR_PCA = "neighbour PCA"
AS_WRITTEN = "stgraph as written"

_MOST_CLASSES = 100

_BASELINE_COMPONENTS, _BASELINE_CELLS = 20, 30

_Labels = dict[str, NDArray[np.int64]]


def score_domains(
    adatas: Mapping[str, AnnData], key: str, finder: DomainFinder, *, random_state: int = 0
) -> pd.DataFrame:
    """Adjusted Rand index of our domains and of two simple methods, for each slice.

    For each slice, all methods are asked for the number of domains that its annotation
    has, and each clusters all cells of all slices together. Ours is ``finder`` on the
    embedding. The others are Gaussian mixtures with a shared covariance (the strongest of
    the usual clusterings here, at the best of ten starts) on 20 principal components of
    log counts, and on these averaged over the 30 nearest cells. A row for our domains as
    they were written is added where their number differs.

    Parameters
    ----------
    adatas
        Slices with embedding and domains, by name.
    key
        Column of ``obs`` with the annotation; cells without one are clustered, but not
        scored.
    finder
        How embeddings are clustered.
    random_state
        Seed of the baselines' components.

    Returns
    -------
    DataFrame
        ``slice, method, n_domains, ari, n_cells``.

    Raises
    ------
    InputError
        If a slice lacks the column, or has fewer than two classes in it.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.scoring import score_domains
    >>> trainer = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 2}
    >>> result = stgraph.fit(stgraph.synthetic_tissue(n_cells=200, n_genes=60), trainer=trainer, progress=False)
    >>> score_domains(result.adatas, "domain", result.pretrained.domains)["method"].tolist()
    ['stgraph', 'PCA', 'neighbour PCA', 'stgraph as written']
    """
    labels = {name: annotation(adata, key, name) for name, adata in adatas.items()}
    positions = {name: adata.obsm[_keys.SPATIAL] for name, adata in adatas.items()}
    encoder = LogPCA(n_components=_BASELINE_COMPONENTS, whiten=False, random_state=random_state)
    encoder.fit(list(adatas.values()))
    pca = {name: encoder.transform(adata) for name, adata in adatas.items()}
    neighbor_pca = {name: neighbor_mean(x, positions[name], n_neighbors=_BASELINE_CELLS) for name, x in pca.items()}

    def ours(n_domains: int) -> _Labels:
        fitted: DomainFinder = instantiate(to_config(finder) | {"n_domains": n_domains})
        embeddings = {name: adata.obsm[_keys.EMBEDDING] for name, adata in adatas.items()}
        fitted.fit(list(embeddings.values()), list(positions.values()))
        return {name: fitted.predict(x, positions[name]) for name, x in embeddings.items()}

    def mixture_of(features: Mapping[str, NDArray[Any]]) -> Callable[[int], _Labels]:
        def cluster(n_domains: int) -> _Labels:
            mixture = fit_mixture(np.concatenate(list(features.values())), n_domains, random_state=random_state)
            return {name: mixture.predict(x) for name, x in features.items()}

        return cluster

    methods = {OURS: cache(ours), PCA: cache(mixture_of(pca)), NEIGHBOR_PCA: cache(mixture_of(neighbor_pca))}
    rows = []
    for name, adata in adatas.items():
        annotated = labels[name] != ""
        truth = labels[name][annotated]
        n_domains = len(np.unique(truth))
        for method, cluster in methods.items():
            score = adjusted_rand_score(truth, cluster(n_domains)[name][annotated])
            rows.append((name, method, n_domains, score, len(truth)))
        if finder.n_domains != n_domains:
            written = adata.obs[_keys.DOMAIN].astype(str).to_numpy()[annotated]
            score = adjusted_rand_score(truth, written)
            rows.append((name, AS_WRITTEN, finder.n_domains, score, len(truth)))
    return pd.DataFrame(rows, columns=["slice", "method", "n_domains", "ari", "n_cells"])


def annotation(adata: AnnData, key: str, name: str) -> NDArray[np.str_]:
    """Annotated label of each cell, ``""`` where there is none.

    Raises
    ------
    InputError
        If the column is not there, or has fewer than two classes or too many.
    """
    if key not in adata.obs:
        raise InputError(f"{name}: obs has no column '{key}' to score against; it has: {', '.join(adata.obs.columns)}.")
    column = adata.obs[key]
    labels = np.where(column.isna(), "", column.astype(str).to_numpy()).astype(str)
    if len(np.unique(labels[labels != ""])) < 2:
        raise InputError(f"{name}: obs['{key}'] has fewer than two classes, so domains cannot be scored against it.")
    if len(np.unique(labels)) > _MOST_CLASSES:
        raise InputError(
            f"{name}: obs['{key}'] has {len(np.unique(labels))} different values, more than {_MOST_CLASSES}: "
            "it does not look like an annotation of domains."
        )
    return labels
