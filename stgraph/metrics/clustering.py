"""How well clusters agree with known ones, and how well they are set apart."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import adjusted_rand_score, homogeneity_completeness_v_measure, silhouette_score

from stgraph.errors import InputError
from stgraph.metrics.arguments import checked_codes, checked_matrix


def clustering_scores(truth: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Agreement of two partitions of the cells, whatever their clusters are called.

    Parameters
    ----------
    truth
        (N,) integer codes of the known classes. Cells without one have to be left out:
        a code of -1 counts as a class.
    labels
        (N,) integer codes of the clusters.

    Returns
    -------
    dict
        ``ari``, adjusted Rand index: 1 for the same partition, 0 on average for a
        shuffled one.

        ``nmi``, mutual information over the mean of the two entropies; not corrected for
        chance, so more clusters score higher.

        ``homogeneity``, 1 if every cluster is of one class, and ``completeness``, 1 if
        every class is in one cluster.

        All by scikit-learn, and where both have a single cluster all are 1.

    Raises
    ------
    InputError
        If they are no integers or not as many.

    References
    ----------
    L. Hubert and P. Arabie, "Comparing partitions", Journal of Classification 2, 1985.
    A. Rosenberg and J. Hirschberg, "V-Measure", EMNLP-CoNLL 2007.

    Examples
    --------
    >>> from stgraph.metrics.clustering import clustering_scores
    >>> scores = clustering_scores([0, 0, 1, 1], [5, 5, 2, 3])
    >>> {name: round(score, 3) for name, score in scores.items()}
    {'ari': 0.571, 'nmi': 0.8, 'homogeneity': 1.0, 'completeness': 0.667}
    """
    codes = checked_codes("clustering_scores", "truth", truth)
    found = checked_codes("clustering_scores", "labels", labels, n_cells=len(codes))
    # The V measure is the mutual information over the mean of the entropies.
    homogeneity, completeness, nmi = homogeneity_completeness_v_measure(codes, found)
    return {
        "ari": float(adjusted_rand_score(codes, found)),
        "nmi": float(nmi),
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
    }


def silhouette(x: ArrayLike, labels: ArrayLike, *, max_cells: int | None = 5000, random_state: int = 0) -> float:
    """How much nearer cells are to their own cluster than to the next, in features.

    It judges a partition without a truth, and by the same features: it says nothing
    about two embeddings, each measured in its own space.

    Parameters
    ----------
    x
        (N, C) features.
    labels
        (N,) integer codes of the clusters.
    max_cells
        Cells drawn at random without replacement where there are more, because all
        pairs are compared; None for all, however many.
    random_state
        Seed of the draw.

    Returns
    -------
    float
        Mean over cells of (b - a) / max(a, b), from -1 to 1: a is the mean distance to
        the other cells of the cluster, b to those of the nearest other cluster. A cell
        alone in its cluster has 0. NaN if the cells drawn are all of one cluster, or
        each of its own.

    Raises
    ------
    InputError
        If a feature is not finite, or ``max_cells`` below 2.

    References
    ----------
    P. J. Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 20, 1987.

    Examples
    --------
    >>> from stgraph.metrics.clustering import silhouette
    >>> round(silhouette([[0.0], [1.0], [10.0], [11.0]], [0, 0, 1, 1]), 3)
    0.9
    """
    features = checked_matrix("silhouette", "x", x)
    codes = checked_codes("silhouette", "labels", labels, n_cells=len(features))
    if max_cells is not None and max_cells < 2:
        raise InputError(f"silhouette needs max_cells of at least 2, or None for all, not {max_cells}.")
    if max_cells is not None and len(codes) > max_cells:
        drawn = np.random.default_rng(random_state).choice(len(codes), size=max_cells, replace=False)
        features, codes = features[drawn], codes[drawn]
    n_clusters = len(np.unique(codes))
    if not 1 < n_clusters < len(codes):
        return float("nan")
    return float(silhouette_score(features, codes))
