"""Which types of cells are around each cell, counted and predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from stgraph import _keys
from stgraph.baselines.base import SliceEncoder
from stgraph.graph.ball_counts import tally_within
from stgraph.tasks.folds import Split
from stgraph.tasks.given import check_slices
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.result import TaskResult
from stgraph.tasks.shifts import Shift
from stgraph.tasks.surroundings import check_reach, reach, sections
from stgraph.tasks.target import Target, label_target
from stgraph.tasks.truth_around import evaluate_apart


def neighborhood_composition(
    adata: AnnData, key: str, radius: float | None = None, *, mean_neighbors: float | None = None
) -> pd.DataFrame:
    """Share of each type among the other cells around each cell, within its section.

    Nicheformer's definition with proportions in place of the softmax of its formula.
    Cells without a label have a composition, but count in none.

    Parameters
    ----------
    adata
        Canonical; of several sections, each is counted by itself.
    key
        Column of ``obs`` with the types.
    radius, mean_neighbors
        As in `stgraph.tasks.density.cell_density`.

    Returns
    -------
    DataFrame
        (N, number of types), rows ``obs_names``, columns sorted by name. A row sums to 1,
        or is NaN where no labelled cell is around.

    Raises
    ------
    InputError
        If the column is not there or has fewer than two types, or as in `cell_density`.

    References
    ----------
    A. C. Schaar et al., "Nicheformer: a foundation model for single-cell and spatial omics",
    Nature Methods, 2025.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.composition import neighborhood_composition
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> around = neighborhood_composition(tissue, "cell_type", mean_neighbors=10)
    >>> around.shape, round(float(around.iloc[0].sum()), 6)
    ((200, 12), 1.0)
    """
    types = label_target({"": adata}, key)
    shares = _shares(adata, types.of[""], len(types.names), radius, mean_neighbors)
    return pd.DataFrame(shares, index=adata.obs_names, columns=list(types.names))


@dataclass(frozen=True)
class NeighborhoodComposition:
    """Tell the types of the cells around a cell from its description.

    The truth is counted in whole slices, before they are divided. Two cells less than two
    radii apart share some of the cells they count, so that training cells that are nearer
    to a judged one are left out, whatever the margin of the split, unless it leaks anyway.

    Parameters
    ----------
    key
        Column of ``obs`` with the types.
    radius
        Microns; None where ``mean_neighbors`` says it.
    mean_neighbors
        As in `stgraph.tasks.density.cell_density`: 10, 20, 50 and 100 in Nicheformer.
    heads
        As in `stgraph.tasks.probe.Probe`.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.composition import NeighborhoodComposition
    >>> from stgraph.tasks.splits import SpatialBlocks
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]}
    >>> task = NeighborhoodComposition(mean_neighbors=10)
    >>> task.run(slices, LogPCA(n_components=5), split=SpatialBlocks()).table["target"].unique().tolist()
    ['cell_type_around_mean_10']
    """

    key: str = "cell_type"
    radius: float | None = None
    mean_neighbors: float | None = 20.0
    heads: Sequence[BaseEstimator] | None = None

    def __post_init__(self) -> None:
        check_reach(f"{type(self).__name__}'s surroundings", self.radius, self.mean_neighbors)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "composition"

    def target(self, slices: Mapping[str, AnnData]) -> Target:
        """The truth, counted in whole slices.

        Parameters
        ----------
        slices
            Canonical slices, by name; nothing is known of those without the column.

        Returns
        -------
        Target
            A share for each type in any of the slices.

        Raises
        ------
        InputError
            If there are fewer than two types.
        """
        types = label_target(slices, self.key)
        of = {
            name: _shares(adata, types.of[name], len(types.names), self.radius, self.mean_neighbors)
            for name, adata in slices.items()
        }
        how = f"within_{self.radius:g}um" if self.mean_neighbors is None else f"mean_{self.mean_neighbors:g}"
        return Target(f"{self.key}_around_{how}", "values", types.names, of)

    def run(
        self,
        slices: Mapping[str, AnnData],
        model: SliceEncoder | Predictor,
        *,
        split: Split,
        shift: Shift | None = None,
        random_state: int = 0,
    ) -> TaskResult:
        """Learn and judge in each fold of a split.

        Parameters
        ----------
        slices, model, split, shift, random_state
            As in `stgraph.tasks.density.CellDensity`.

        Returns
        -------
        TaskResult
            Mean absolute error of the shares, correlations and R2 of each slice;
            predictions, one column for each type, in ``obsm``.

        Raises
        ------
        InputError
            As in `target` and `CellDensity`.
        """
        check_slices(slices)
        reaches = {name: reach(adata, self.radius, self.mean_neighbors) for name, adata in slices.items()}
        return evaluate_apart(
            self.name,
            self.target(slices),
            reaches,
            slices,
            model,
            split,
            heads=self.heads,
            shift=shift,
            random_state=random_state,
        )


def _shares(
    adata: AnnData, codes: NDArray[Any], n_types: int, radius: float | None, mean_neighbors: float | None
) -> NDArray[np.float64]:
    """(N, n_types), NaN in a whole row where nobody is known to be around."""
    shares = np.full((adata.n_obs, n_types), np.nan)
    codes = np.asarray(codes, dtype=np.int64)
    for rows in sections(adata):
        part = adata[rows]
        counts = tally_within(part.obsm[_keys.SPATIAL], codes[rows], n_types, reach(part, radius, mean_neighbors))
        total = counts.sum(axis=1, keepdims=True)
        shares[rows] = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    return shares
