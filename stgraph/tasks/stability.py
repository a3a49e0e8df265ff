"""How many domains? A stability curve, and a suggestion that says how sure it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.metrics.intervals import spatial_blocks
from stgraph.tasks.clusterers import Arrays, Clusterer, MixtureClusters, Positions, stacked

_BLOCKS = 25
_SHARE = 0.8
"""Share of the blocks of each slice in a subsample."""

_DRAWS = 1000
_TIE = 0.01
_SURE, _LIKELY = 0.9, 0.5
_CLEAR = 0.9
_LEAST_STABLE = 0.6
"""Agreement below which two subsamples of the same cells do not tell the same domains."""


@dataclass(frozen=True)
class Suggestion:
    """A number of domains, and all it was chosen from.

    Attributes
    ----------
    table
        A row for each candidate: ``n_domains``; ``agreement``, mean adjusted Rand index of
        the clusterings of two subsamples on the cells they share, and its 95 % interval
        ``low``, ``high`` over subsamples; ``reference``, the same of data without clusters;
        ``corrected``, (agreement - reference) / (1 - reference), which is 1 for perfect
        agreement and 0 for that of data without clusters; ``chosen``, the share of bootstrap
        draws of the subsamples that suggest this candidate; ``next_agreement``, the mean
        index between this clustering and that of the next candidate of the same cells.
    suggested
        The candidate of the greatest corrected agreement; of those within 0.01 of it, the
        largest, for merging clear domains is stable too.
    sentence
        How sure that is, in words.
    """

    table: pd.DataFrame
    suggested: int
    sentence: str


@dataclass(frozen=True)
class _Settings:
    n_repeats: int
    max_cells: int

    def __post_init__(self) -> None:
        check_whole(self, "n_repeats", 3)
        check_whole(self, "max_cells", 100)


def suggest_n_domains(
    adatas: Mapping[str, AnnData],
    *,
    use_rep: str = _keys.EMBEDDING,
    candidates: Iterable[int] = range(2, 16),
    clusterer: Clusterer | None = None,
    n_repeats: int = 10,
    max_cells: int = 10_000,
    random_state: int = 0,
) -> Suggestion:
    """Suggest a number of domains for slices with descriptions.

    Parameters
    ----------
    adatas
        Slices by name.
    use_rep
        Key of ``obsm`` with the description (N, C) of each.
    candidates, clusterer, n_repeats, max_cells, random_state
        As in `suggest_from_embeddings`.

    Returns
    -------
    Suggestion
        With the whole curve; `stgraph.plot.stability.stability_curve` draws it.

    Raises
    ------
    InputError
        If a slice has no such description, or as in `suggest_from_embeddings`.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.stability import suggest_n_domains
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> tissue.obsm["X_pca"] = LogPCA(n_components=5).fit([tissue]).transform(tissue)
    >>> found = suggest_n_domains({"a": tissue}, use_rep="X_pca", candidates=range(2, 5), n_repeats=3)
    >>> found.table["n_domains"].tolist()
    [2, 3, 4]
    """
    for name, adata in adatas.items():
        if use_rep not in adata.obsm:
            raise InputError(
                f"{name}: obsm has no '{use_rep}' to cluster; it has: {', '.join(map(str, adata.obsm)) or 'nothing'}."
            )
    return suggest_from_embeddings(
        {name: np.asarray(adata.obsm[use_rep]) for name, adata in adatas.items()},
        {name: np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64) for name, adata in adatas.items()},
        candidates=candidates,
        clusterer=clusterer,
        n_repeats=n_repeats,
        max_cells=max_cells,
        random_state=random_state,
    )


def suggest_from_embeddings(
    embeddings: Arrays,
    positions: Positions,
    *,
    candidates: Iterable[int] = range(2, 16),
    clusterer: Clusterer | None = None,
    n_repeats: int = 10,
    max_cells: int = 10_000,
    random_state: int = 0,
) -> Suggestion:
    """Suggest the number of domains that subsamples of the tissue agree on most.

    Subsamples are four fifths of 25 blocks of tissue of each slice, so that a domain must
    hold elsewhere than where it was seen. Each is clustered at each candidate, and each pair
    is compared on the cells they share [1]_. Few clusters agree even where there are none, along
    the longest axis of the cloud: so the agreement is corrected by that of a reference,
    normal with the covariance of the description and without clusters, clustered in the
    same subsamples.

    Stable does not mean true. Annotations name what matters to an anatomist. On means of
    20 principal components over 30 neighbours of two sections of human cortex with 7 annotated
    layers, 2 was suggested (white matter and the rest), with k-means 14 and 15; on mouse visual
    cortex with 7, it was 5 (4 with k-means); on somatosensory cortex with 11, 2, hardly more than 7
    to 9 (7 with k-means). One axis that dominates makes the reference nearly
    as stable as the tissue, and what is left is noise. Read the curve, not the number.

    Parameters
    ----------
    embeddings
        (N, C) by slice.
    positions
        (N, 2) by slice.
    candidates
        Numbers of domains to try, from 2.
    clusterer
        What clusters; a Gaussian mixture of three starts by default.
    n_repeats
        Subsamples; the work is proportional to them.
    max_cells
        Cells of all slices together that are looked at, drawn at random where there are
        more; the sentence says so.
    random_state
        Seed.

    Returns
    -------
    Suggestion
        With the whole curve.

    Raises
    ------
    InputError
        If there is no candidate, one is below 2 or more than a subsample has cells.

    References
    ----------
    .. [1] A. Ben-Hur, A. Elisseeff and I. Guyon, "A stability based method for discovering
       structure in clustered data", Pacific Symposium on Biocomputing 2002. T. Lange et al.,
       "Stability-based validation of clustering solutions", Neural Computation 16, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.stability import suggest_from_embeddings
    >>> rng = np.random.default_rng(0)
    >>> x = np.repeat(np.eye(3) * 9, 40, axis=0) + rng.normal(size=(120, 3))
    >>> pos = rng.uniform(size=(120, 2))
    >>> suggest_from_embeddings({"a": x}, {"a": pos}, candidates=range(2, 6), n_repeats=4).suggested
    3
    """
    settings = _Settings(n_repeats, max_cells)
    numbers = sorted(set(candidates))
    if not numbers or numbers[0] < 2:
        raise InputError(f"Candidates are numbers of domains from 2, not {numbers}.")
    rng = np.random.default_rng(random_state)
    n_all = len(stacked(embeddings, numbers[-1]))
    embeddings, positions = _thinned(embeddings, positions, settings.max_cells, rng)
    samples = [_subsample(positions, rng) for _ in range(n_repeats)]
    seeds = rng.integers(2**31, size=n_repeats)
    clusterer = clusterer or MixtureClusters(n_init=3)
    real = _clusterings(embeddings, positions, numbers, samples, clusterer, seeds)
    none = _clusterings(_structureless(embeddings, rng), positions, numbers, samples, clusterer, seeds)
    n_seen = sum(len(x) for x in embeddings.values())
    return _suggestion(real, none, numbers, rng, n_seen=n_seen, n_all=n_all)


def _thinned(
    embeddings: Arrays, positions: Positions, max_cells: int, rng: np.random.Generator
) -> tuple[Arrays, Positions]:
    sizes = {name: len(x) for name, x in embeddings.items()}
    total = sum(sizes.values())
    if total <= max_cells:
        return embeddings, positions
    rows = {
        name: np.sort(rng.choice(n, size=max(1, round(n * max_cells / total)), replace=False))
        for name, n in sizes.items()
    }
    return {name: embeddings[name][r] for name, r in rows.items()}, {
        name: positions[name][r] for name, r in rows.items()
    }


def _subsample(positions: Positions, rng: np.random.Generator) -> dict[str, NDArray[np.bool_]]:
    """(N,) bool of each slice: the cells of most of its blocks."""
    kept = {}
    for name, pos in positions.items():
        n_blocks = min(_BLOCKS, len(pos))
        blocks = rng.permutation(n_blocks)[: max(1, round(_SHARE * n_blocks))]
        kept[name] = np.isin(spatial_blocks(pos, n_blocks=n_blocks), blocks)
    return kept


def _structureless(embeddings: Arrays, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Normal numbers of the same mean and covariance over all slices."""
    x = np.concatenate([np.asarray(x, dtype=np.float64) for x in embeddings.values()])
    centred = x - x.mean(axis=0)
    # X' = X_c / sqrt(N) is a root of the covariance; its QR factor is one of C columns.
    root = np.linalg.qr(centred / np.sqrt(len(x)), mode="r")
    return {name: x.mean(axis=0) + rng.normal(size=(len(part), len(root))) @ root for name, part in embeddings.items()}


def _clusterings(
    embeddings: Arrays,
    positions: Positions,
    numbers: list[int],
    samples: list[dict[str, NDArray[np.bool_]]],
    clusterer: Clusterer,
    seeds: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(candidates, subsamples, cells) labels, -1 of a cell that is not in the subsample."""
    kept = [np.concatenate([sample[name] for name in embeddings]) for sample in samples]
    found = np.full((len(numbers), len(samples), len(kept[0])), -1, dtype=np.int64)
    for r, sample in enumerate(samples):
        x = {name: values[sample[name]] for name, values in embeddings.items()}
        pos = {name: positions[name][sample[name]] for name in embeddings}
        for i, n_domains in enumerate(numbers):
            labels = clusterer(x, pos, n_domains, random_state=int(seeds[r]))
            found[i, r, kept[r]] = np.concatenate([labels[name] for name in embeddings])
    return found


def _agreements(found: NDArray[np.int64]) -> NDArray[np.float64]:
    """(candidates, subsamples, subsamples) adjusted Rand index on shared cells; NaN of one with itself."""
    n_candidates, n_samples, _ = found.shape
    agreement = np.full((n_candidates, n_samples, n_samples), np.nan)
    for i, labels in enumerate(found):
        for a in range(n_samples):
            for b in range(a):
                shared = (labels[a] >= 0) & (labels[b] >= 0)
                agreement[i, a, b] = agreement[i, b, a] = adjusted_rand_score(labels[a, shared], labels[b, shared])
    return agreement


def _suggestion(
    real: NDArray[np.int64],
    none: NDArray[np.int64],
    numbers: list[int],
    rng: np.random.Generator,
    *,
    n_seen: int,
    n_all: int,
) -> Suggestion:
    agreement, reference = _agreements(real), np.nanmean(_agreements(none), axis=(1, 2))
    mean = np.nanmean(agreement, axis=(1, 2))
    # A subsample that is drawn twice is not compared with itself.
    draws = np.array([_mean_of_draw(agreement, rng) for _ in range(_DRAWS)])
    low, high = np.nanpercentile(draws, [2.5, 97.5], axis=0)
    won = np.bincount([_best(draw, reference) for draw in draws], minlength=len(numbers)) / _DRAWS
    following = [
        np.mean([adjusted_rand_score(a[a >= 0], b[b >= 0]) for a, b in zip(real[i], real[i + 1], strict=True)])
        for i in range(len(numbers) - 1)
    ]
    table = pd.DataFrame(
        {
            "n_domains": numbers,
            "agreement": mean,
            "low": low,
            "high": high,
            "reference": reference,
            "corrected": _corrected(mean, reference),
            "chosen": won,
            "next_agreement": [*following, np.nan],
        }
    )
    best = _best(mean, reference)
    sentence = _sentence(table, best)
    if n_seen < n_all:
        sentence += f" {n_seen} of {n_all} cells were looked at."
    return Suggestion(table, numbers[best], sentence)


def _corrected(agreement: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    return (agreement - reference) / np.maximum(1 - reference, 1e-9)


def _best(agreement: NDArray[np.float64], reference: NDArray[np.float64]) -> int:
    corrected = _corrected(agreement, reference)
    return int(np.flatnonzero(corrected >= corrected.max() - _TIE)[-1])


def _mean_of_draw(agreement: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    n = agreement.shape[1]
    drawn = rng.integers(n, size=n)
    while len(np.unique(drawn)) < 2:
        drawn = rng.integers(n, size=n)
    return np.asarray(np.nanmean(agreement[:, drawn][:, :, drawn], axis=(1, 2)))


def _sentence(table: pd.DataFrame, best: int) -> str:
    row = table.iloc[best]
    n, share = int(row["n_domains"]), float(row["chosen"])
    agreement = table["agreement"].to_numpy()
    others = table[(table["chosen"] >= 0.05) & (table["n_domains"] != n)]["n_domains"].astype(int).tolist()
    how = f"{n} domains are the most stable number (in {share:.0%} of the draws)"
    if row["agreement"] < _LEAST_STABLE:
        how = (
            f"No number of domains is stable: {n} is suggested, but two subsamples agree on its domains by "
            f"{row['agreement']:.2f} only"
        )
    elif share >= _SURE and row["corrected"] >= _CLEAR:
        how += ", clearly"
    elif share < _LIKELY:
        how += ", but hardly more than others"
    if others:
        how += f"; {_listed(others)} cannot be told from it"
    plain = int(table["n_domains"].iloc[_best(agreement, np.zeros(len(table)))])
    if plain != n:
        how += f"; without the correction for chance it would be {plain}"
    if (finer := _next_peak(table["corrected"].to_numpy(), best)) is not None:
        how += f"; the next peak of the curve is at {int(table['n_domains'].iloc[finer])}"
    if len(table) > 1 and best == len(table) - 1:
        how += "; it is the last of the candidates, so look beyond it"
    return how + ". Stable does not mean true: look at the curve and the maps."


def _next_peak(corrected: NDArray[np.float64], best: int) -> int | None:
    """The highest peak of the curve at a larger number, its end not counted."""
    peaks = [
        i for i in range(best + 2, len(corrected) - 1) if corrected[i - 1] < corrected[i] >= max(corrected[i + 1], 0)
    ]
    return max(peaks, key=lambda i: corrected[i], default=None)


def _listed(numbers: list[int]) -> str:
    words = [str(number) for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
