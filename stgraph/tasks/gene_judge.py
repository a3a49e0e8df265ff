"""Correlations of genes over blocks of cells drawn many times."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

_ROUNDING = 1e-12
"""Share of the variance of a gene below which it is constant in a draw."""


def gene_judge(
    truth: NDArray[np.float64], said: NDArray[np.float64], blocks: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], Mapping[str, float]]:
    """What scores draws of whole blocks: mean and median over genes of correlations over cells.

    A correlation is made of sums over cells, and these of sums over blocks, which are found
    once. Ranks, for Spearman's, are those among all cells: they are not ranked again in each
    draw, which moves ends of intervals by a hundredth at most and would take a hundred times as long.

    Parameters
    ----------
    truth, said
        (N, D) values of genes.
    blocks
        (N,) block of each cell.

    Returns
    -------
    callable
        From rows (M,), whole blocks as often as they were drawn, to ``gene_pearson``,
        ``gene_pearson_median``, ``gene_spearman`` and ``gene_spearman_median``. Genes constant
        in truth do not count; those of which the prediction alone is constant count as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.gene_judge import gene_judge
    >>> truth = np.array([[0.0], [1.0], [2.0], [9.0]])
    >>> judge = gene_judge(truth, truth**2, np.array([0, 0, 1, 1]))
    >>> round(judge(np.arange(4))["gene_pearson"], 3), round(judge(np.arange(4))["gene_spearman"], 3)
    (0.987, 1.0)
    """
    sizes = np.bincount(blocks)
    sums = {
        "pearson": _block_sums(truth, said, blocks),
        "spearman": _block_sums(rankdata(truth, axis=0), rankdata(said, axis=0), blocks),
    }

    def score(rows: NDArray[np.int64]) -> Mapping[str, float]:
        times = np.bincount(blocks[rows], minlength=len(sizes)) / sizes
        found = {}
        for name, of_block in sums.items():
            correlation = _correlation(np.tensordot(times, of_block, axes=1), float(times @ sizes))
            defined = correlation[~np.isnan(correlation)]
            for suffix, summary in (("", np.mean), ("_median", np.median)):
                found[f"gene_{name}{suffix}"] = float(summary(defined)) if len(defined) else float("nan")
        return found

    return score


def _block_sums(a: NDArray[np.float64], b: NDArray[np.float64], blocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """(number of blocks, 5, D) sums of a, b and their products, of values standardised over all cells."""
    a, b = _standardised(a), _standardised(b)
    member = (blocks == np.arange(blocks.max() + 1)[:, None]).astype(np.float64)
    return np.stack([member @ column for column in (a, b, a * a, b * b, a * b)], axis=1)


def _standardised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    constant = x.min(axis=0) == x.max(axis=0)
    centred = x - x.mean(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, centred.std(axis=0)))


def _correlation(sums: NDArray[np.float64], n: float) -> NDArray[np.float64]:
    a, b, aa, bb, ab = sums / n
    of_a, of_b = aa - a**2, bb - b**2
    found = (ab - a * b) / np.sqrt(np.maximum(of_a, _ROUNDING) * np.maximum(of_b, _ROUNDING))
    found = np.where(of_b > _ROUNDING, np.clip(found, -1, 1), 0.0)
    return np.asarray(np.where(of_a > _ROUNDING, found, np.nan))
