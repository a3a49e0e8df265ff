"""Scores of the predictions of a task by other measures than those of its kind."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.metrics.intervals import block_bootstrap, spatial_blocks
from stgraph.tasks.evaluate import BLOCKS
from stgraph.tasks.result import COLUMNS, TaskResult

Judge = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]], Callable[[NDArray[np.int64]], Mapping[str, float]]
]
"""From truth (n, D), prediction (n, D) and the block (n,) of each cell to what scores rows, drawn by whole blocks."""


def by_rows(score: Callable[[NDArray[np.float64], NDArray[np.float64]], Mapping[str, float]]) -> Judge:
    """A judge that scores truth and prediction of the drawn rows, whatever the blocks.

    Parameters
    ----------
    score
        Of truth (n, D) and prediction (n, D).

    Returns
    -------
    callable
        A `Judge`.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.tasks.rescored import by_rows
    >>> judge = by_rows(lambda truth, said: {"bias": float((said - truth).mean())})
    >>> judge(np.zeros((2, 1)), np.ones((2, 1)), np.array([0, 1]))(np.array([0, 0]))
    {'bias': 1.0}
    """
    return lambda truth, said, blocks: lambda rows: score(truth[rows], said[rows])


def rescored(
    result: TaskResult,
    target: str,
    truth: Mapping[str, NDArray[np.float64]],
    judge: Judge,
    *,
    n_draws: int = 200,
    random_state: int = 0,
) -> pd.DataFrame:
    """Table of the same predictions with other metrics.

    Parameters
    ----------
    result
        With predictions in ``obsm["stgraph_predicted_TARGET"]``, NaN where not judged.
    target
        Its name.
    truth
        (N, D) of each slice.
    judge
        What scores.
    n_draws
        Draws of the bootstrap over blocks of a slice.
    random_state
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        With `stgraph.tasks.result.COLUMNS`, a row for each slice and metric.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.density import CellDensity
    >>> from stgraph.tasks.rescored import by_rows, rescored
    >>> from stgraph.tasks.splits import RandomCells
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]}
    >>> task = CellDensity(25.0)
    >>> result, target = task.run(slices, LogPCA(n_components=5), split=RandomCells()), task.target(slices)
    >>> judge = by_rows(lambda truth, said: {"bias": (said - truth).mean()})
    >>> rescored(result, target.name, target.of, judge)["metric"].tolist()
    ['bias']
    """
    rows = []
    for name, adata in result.adatas.items():
        said = np.asarray(adata.obsm[_keys.PREDICTION.format(target=target)], dtype=np.float64)
        which = ~np.isnan(said).any(axis=1)
        if not which.any():
            continue
        common = result.table[result.table["slice"] == name].iloc[0].to_dict()
        for row in _scores(
            truth[name][which], said[which], adata.obsm[_keys.SPATIAL][which], judge, n_draws, random_state
        ):
            rows.append(common | {"n_cells": int(which.sum())} | row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _scores(
    truth: NDArray[np.float64],
    said: NDArray[np.float64],
    pos: NDArray[np.float64],
    judge: Judge,
    n_draws: int,
    random_state: int,
) -> list[dict[str, Any]]:
    blocks = spatial_blocks(pos, n_blocks=min(BLOCKS, len(truth)))
    judged = judge(truth, said, blocks)
    drawn: dict[bytes, Mapping[str, float]] = {}

    def score(rows: NDArray[np.int64], metric: str) -> float:
        # The draws are the same for each metric, which are computed together.
        key = rows.tobytes()
        if key not in drawn:
            drawn[key] = judged(rows)
        return float(drawn[key][metric])

    scored = []
    for metric, value in judged(np.arange(len(truth))).items():

        def one(rows: NDArray[np.int64], metric: str = metric) -> float:
            return score(rows, metric)

        low, high = block_bootstrap(one, blocks, n_draws=n_draws, random_state=random_state)
        scored.append({"metric": metric, "value": float(value), "low": low, "high": high})
    return scored
