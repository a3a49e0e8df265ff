"""How many cells are around each cell, counted and predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from stgraph import _keys
from stgraph.baselines.base import SliceEncoder
from stgraph.graph.ball_counts import count_within
from stgraph.tasks.folds import Split
from stgraph.tasks.given import check_slices
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.result import TaskResult
from stgraph.tasks.shifts import Shift
from stgraph.tasks.surroundings import check_reach, reach, sections
from stgraph.tasks.target import Target
from stgraph.tasks.truth_around import evaluate_apart


def cell_density(
    adata: AnnData, radius: float | None = None, *, mean_neighbors: float | None = None
) -> NDArray[np.int64]:
    """Number of other cells around each cell, within its section: Nicheformer's density.

    Parameters
    ----------
    adata
        Canonical; of several sections, each is counted by itself.
    radius
        Microns: 25 in Nicheformer, 17 in its colon. Cells exactly as far count.
    mean_neighbors
        Instead: the radius of a section is that at which there are as many on average, so
        that the unit need not be known.

    Returns
    -------
    ndarray
        (N,) int64.

    Raises
    ------
    InputError
        If not one of the two is given, or the unit of the coordinates is unknown and the
        radius in microns.

    References
    ----------
    A. C. Schaar et al., "Nicheformer: a foundation model for single-cell and spatial omics",
    Nature Methods, 2025.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.density import cell_density
    >>> cell_density(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0], 25.0).shape
    (200,)
    """
    check_reach("The surroundings", radius, mean_neighbors)
    counts = np.zeros(adata.n_obs, dtype=np.int64)
    for rows in sections(adata):
        part = adata[rows]
        counts[rows] = count_within(part.obsm[_keys.SPATIAL], reach(part, radius, mean_neighbors))
    return counts


@dataclass(frozen=True)
class CellDensity:
    """Tell the number of cells around a cell from its description.

    It asks what expression says about density. A description that looks at geometry (edge
    lengths, cells within a radius) can read the answer off directly, and one that looks at
    a fixed number of neighbours cannot: compare like with like. On an array of spots all
    cells but those at the border have the same density, and there is nothing to tell.

    Parameters
    ----------
    radius
        Microns; None where ``mean_neighbors`` says it.
    mean_neighbors
        As in `cell_density`, for slices of unknown unit.
    heads
        As in `stgraph.tasks.probe.Probe`.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.density import CellDensity
    >>> from stgraph.tasks.splits import SpatialBlocks
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]}
    >>> result = CellDensity().run(slices, LogPCA(n_components=5), split=SpatialBlocks())
    >>> {"mae", "pearson", "r2"} <= set(result.table["metric"])
    True
    """

    radius: float | None = 25.0
    mean_neighbors: float | None = None
    heads: Sequence[BaseEstimator] | None = None

    def __post_init__(self) -> None:
        check_reach(f"{type(self).__name__}'s surroundings", self.radius, self.mean_neighbors)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "density"

    def target(self, slices: Mapping[str, AnnData]) -> Target:
        """The truth, counted in whole slices.

        Parameters
        ----------
        slices
            Canonical slices, by name.

        Returns
        -------
        Target
            One value, the number of cells, known of every cell.
        """
        how = f"within_{self.radius:g}um" if self.mean_neighbors is None else f"mean_{self.mean_neighbors:g}"
        of = {
            name: cell_density(adata, self.radius, mean_neighbors=self.mean_neighbors).astype(np.float64)[:, None]
            for name, adata in slices.items()
        }
        return Target(f"density_{how}", "values", ("n_cells",), of)

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
        slices
            Canonical slices, by name.
        model
            As in `stgraph.tasks.evaluate.evaluate`.
        split
            Whose truth is learnt from. Cells that are less than two radii from a judged one
            are not learnt from, whatever the split says, unless it leaks anyway.
        shift
            What is done to a judged slice; the truth is that of the whole slice.
        random_state
            Seed.

        Returns
        -------
        TaskResult
            Mean absolute error in cells, correlations and R2 of each slice.
            ``obsm["stgraph_predicted_density_within_25um"]`` (N, 1) has the predictions.

        Raises
        ------
        InputError
            If the unit of a slice is unknown and the radius in microns, or no cell is far
            enough from the judged ones to learn from.
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
