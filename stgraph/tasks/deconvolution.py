"""The composition of spots as a task: spots made of single cells, judged by what they were made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError
from stgraph.metrics.proportions import proportion_scores
from stgraph.tasks.deconvolve import shares_in
from stgraph.tasks.deconvolver import Deconvolver
from stgraph.tasks.evaluate import evaluate
from stgraph.tasks.folds import Fold, Split
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.pseudo_spots import PROPORTIONS, GatheredSpots, gather_spots
from stgraph.tasks.rescored import by_rows, rescored
from stgraph.tasks.result import TaskResult
from stgraph.tasks.shifts import Shift
from stgraph.tasks.simplex import onto_simplex, proportion_heads
from stgraph.tasks.spot_layouts import HexagonalSpots, SpotLayout
from stgraph.tasks.target import Target, label_target


@dataclass(frozen=True)
class Deconvolution:
    """Tell the types of the cells in a spot from its counts.

    Spots are made of the cells of each slice first, and then divided. A method of signatures
    learns from the cells of the training and validation spots alone, so that no cell of a
    judged spot, nor one between spots, is in its reference. A model that describes gets a
    ridge regression on the shares of the training spots, brought to the nearest proportions.

    Parameters
    ----------
    key
        Column of ``obs`` with the types of cells.
    layout
        Where spots lie.
    min_cells
        Fewest cells of a spot.
    heads
        As in `stgraph.tasks.probe.Probe`, for models that describe; None for
        `stgraph.tasks.simplex.proportion_heads`.
    name
        Name in tables.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.deconvolution import Deconvolution
    >>> from stgraph.tasks.signature_nnls import SignatureNNLS
    >>> from stgraph.tasks.splits import LeaveOneSliceOut
    >>> slices = dict(zip("ab", stgraph.synthetic_tissue(n_cells=400, n_genes=60, n_slices=2), strict=True))
    >>> result = Deconvolution().run(slices, SignatureNNLS(), split=LeaveOneSliceOut(buffer=0))
    >>> result.table["metric"].unique().tolist()
    ['jsd', 'rmse', 'pearson']
    """

    key: str = "cell_type"
    layout: SpotLayout = field(default_factory=HexagonalSpots)
    min_cells: int = 1
    heads: Sequence[BaseEstimator] | None = None
    name: str = "deconvolution"

    def run(
        self,
        slices: Mapping[str, AnnData],
        model: SliceEncoder | Predictor | Deconvolver,
        *,
        split: Split,
        shift: Shift | None = None,
        random_state: int = 0,
    ) -> TaskResult:
        """Learn and judge in each fold of a split of the spots.

        Parameters
        ----------
        slices
            Canonical slices of single cells, in microns, by name.
        model
            A method of signatures; what describes spots; or what learns shares itself.
        split
            Of the spots: its margins count in spacings of spots.
        shift
            What is done to a slice of spots before they are judged.
        random_state
            Seed of the split, the shift and the bootstrap.

        Returns
        -------
        TaskResult
            Divergence, error and correlation of the shares of each slice; slices of spots, with
            the truth in ``obsm["proportions"]`` and what was predicted in
            ``obsm["stgraph_predicted_proportions"]``.

        Raises
        ------
        InputError
            As `stgraph.tasks.pseudo_spots.pseudo_spots` and `stgraph.tasks.evaluate.evaluate`.
        """
        types = label_target(slices, self.key)
        codes = {name: types.of[name].astype(np.int64) for name in slices}
        made = {
            name: gather_spots(adata, codes[name], types.names, layout=self.layout, min_cells=self.min_cells)
            for name, adata in slices.items()
        }
        spots = {name: gathered.spots for name, gathered in made.items()}
        truth = {name: np.asarray(adata.obsm[PROPORTIONS]) for name, adata in spots.items()}
        target = Target(PROPORTIONS, "values", types.names, truth)
        heads = self.heads
        learner: Any = model
        if hasattr(model, "proportions"):
            if heads is not None:
                raise InputError(f"{type(model).__name__} needs no heads: leave them out of Deconvolution.")
            learner = FromCells(cast(Deconvolver, model), slices, codes, made)
        elif not hasattr(model, "learn") and heads is None:
            heads = proportion_heads()
        result = evaluate(
            self.name, target, spots, learner, split, heads=heads, shift=shift, n_draws=1, random_state=random_state
        )
        result.notes[:0] = [note for gathered in made.values() for note in gathered.notes]
        result.table = rescored(result, target.name, truth, by_rows(_judge), random_state=random_state)
        return result


def _judge(truth: NDArray[np.float64], said: NDArray[np.float64]) -> dict[str, float]:
    # What was learnt by heads of another kind need not be proportions.
    return proportion_scores(truth, onto_simplex(said))


@dataclass
class FromCells:
    """A method of signatures as a predictor: its reference is the cells of the spots it may know.

    Parameters
    ----------
    method
        Of signatures.
    cells
        Single cells of each slice.
    codes
        (N,) their types.
    made
        The spots they are in.
    """

    method: Deconvolver
    cells: Mapping[str, AnnData]
    codes: Mapping[str, NDArray[np.int64]]
    made: Mapping[str, GatheredSpots]
    _reference: tuple[list[AnnData], list[NDArray[np.int64]], int] | None = field(default=None, init=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy that has learnt nothing; cells are only read, so both share them."""
        return type(self)(self.method, self.cells, self.codes, self.made)

    def learn(self, slices: Mapping[str, AnnData], target: Target, fold: Fold) -> Self:
        """Take the cells of training and validation spots; there is nothing to choose between."""
        references, codes = [], []
        for name in slices:
            known = np.zeros(self.made[name].spots.n_obs, dtype=bool)
            for masks in (fold.train, fold.validation):
                known |= masks.get(name, False)
            spot = self.made[name].spot_of_cell
            rows = np.flatnonzero(known[spot] & (spot >= 0))
            if len(rows):
                references.append(self.cells[name][rows])
                codes.append(self.codes[name][rows])
        if not references:
            raise InputError(f"Fold '{fold.name}' has no training spot, so there is no reference.")
        self._reference = references, codes, len(target.names)
        return self

    def predict(self, adata: AnnData) -> NDArray[np.float64]:
        """(M, K) shares in the spots of one slice."""
        if self._reference is None:
            raise InputError("FromCells has learnt nothing yet: call learn(slices, target, fold) first.")
        return shares_in(adata, *self._reference, self.method)
