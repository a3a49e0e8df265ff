"""Tasks whose truth about a cell is made of the cells around it."""

from collections.abc import Mapping, Sequence

from anndata import AnnData
from sklearn.base import BaseEstimator

from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError
from stgraph.tasks.apart import Apart
from stgraph.tasks.evaluate import evaluate
from stgraph.tasks.folds import Split
from stgraph.tasks.given import check_split
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.result import TaskResult
from stgraph.tasks.shifts import Shift
from stgraph.tasks.target import Target


def evaluate_apart(
    task: str,
    target: Target,
    reaches: Mapping[str, float],
    slices: Mapping[str, AnnData],
    model: SliceEncoder | Predictor,
    split: Split,
    *,
    heads: Sequence[BaseEstimator] | None = None,
    shift: Shift | None = None,
    random_state: int = 0,
) -> TaskResult:
    """As `stgraph.tasks.evaluate.evaluate`, with learnt and judged cells `Apart`.

    Parameters
    ----------
    reaches
        By slice, how far away a cell may be to count in the truth of another.
    task, target, slices, model, split, heads, shift, random_state
        As in `stgraph.tasks.evaluate.evaluate`.

    Returns
    -------
    TaskResult
        Its notes say which cells were left out.

    Raises
    ------
    InputError
        If no cell is far enough from the judged ones to learn from.
    """
    check_split(split)
    apart = Apart(split, reaches)
    folds = [fold.of(target) for fold in apart.folds(slices, random_state=random_state)]
    if not any(fold.train and fold.test for fold in folds):
        widest = max(reaches, key=lambda name: reaches[name])
        raise InputError(
            f"No cell to learn '{target.name}' from has a known truth and is farther than two radii from the judged "
            f"ones (the radius in {widest} is {reaches[widest]:g}): use a smaller radius or mean_neighbors, larger "
            "blocks, or leave whole slices out."
        )
    result = evaluate(task, target, slices, model, apart, heads=heads, shift=shift, random_state=random_state)
    result.notes[:0] = apart.notes
    return result
