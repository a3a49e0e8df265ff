"""Which head reads which view of a description, and how much of each view counts, by validation cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.metrics.classification import macro_f1
from stgraph.metrics.intervals import spatial_blocks
from stgraph.tasks.folds import Masks
from stgraph.tasks.view_mixing import best_power, shares

_N_BLOCKS, _DRAWS = 10, 50


@dataclass(frozen=True)
class ViewHead:
    """A head, the columns of the description it reads, and how much it counts.

    Attributes
    ----------
    view
        Name of the view.
    columns
        Of the description.
    head
        An estimator of scikit-learn.
    share
        Of what is said in the end.
    power
        Of its probabilities; below 1 they become less sure.
    """

    view: str
    columns: slice
    head: Any
    share: float = 1.0
    power: float = 1.0


def choose_heads(
    heads: Sequence[ViewHead],
    said_by: Callable[[ViewHead], NDArray[np.float64]],
    truth: NDArray[Any],
    blocks: NDArray[np.int64],
) -> tuple[list[ViewHead], str]:
    """The views that count, each read by the first head that is not clearly worse than its best.

    Heads are in an order, the one to be preferred first; views are not: they are of different kinds. Heads that so
    few cells cannot train stand aside.

    Parameters
    ----------
    heads
        To choose from; those of one view in their order.
    said_by
        Trains a head on training cells: what it says of the validation cells, probabilities (n, K) or values (n, D).
    truth
        (n,) classes or (n, D) values of the validation cells.
    blocks
        (n,) block of tissue of each of them.

    Returns
    -------
    chosen : list of ViewHead
        With shares and powers.
    why : str
        One sentence on that.

    Raises
    ------
    InputError
        If no head can be trained.
    """
    judged: dict[str, list[_Judged]] = {}
    drawn = _draws(blocks)
    refusal: InputError | None = None
    for head in heads:
        try:
            said = said_by(head)
        except InputError as error:
            refusal = error
        else:
            scores = [_score(truth[rows], said[rows]) for rows in drawn]
            judged.setdefault(head.view, []).append(_Judged(head, said, _score(truth, said), np.array(scores)))
    if not judged:
        assert refusal is not None
        raise refusal
    found = [_preferred(tried) for tried in judged.values()]
    first = max(found, key=lambda each: each.score)
    highest = max(each.score for each in judged[first.head.view])
    classes = truth.ndim == 1
    why = (
        f"{'macro F1' if classes else 'explained variance'} {first.score:.3f} on the validation cells, the first of "
        f"{len(judged[first.head.view])} heads within a standard error of the best ({highest:.3f})"
    )
    if len(found) == 1:
        return [first.head], why
    parts = shares([each.score for each in found], float(np.mean([each.drawn.std() for each in found])))
    why += f", on the best of {len(found)} views, beside " + (
        ", ".join(f"'{each.head.view}' ({share:.2f})" for each, share in zip(found, parts, strict=True) if share)
        if (parts > 0).sum() > 1
        else "no other"
    )
    chosen = [
        replace(each.head, share=float(share), power=best_power(truth, each.said) if classes else 1.0)
        for each, share in zip(found, parts, strict=True)
        if share > 0
    ]
    return chosen, why


def validation_blocks(slices: Mapping[str, AnnData], masks: Masks) -> NDArray[np.int64]:
    """Block of tissue of each cell that masks name, other ones in each slice.

    Parameters
    ----------
    slices
        By name.
    masks
        Cells of some of them.

    Returns
    -------
    ndarray
        (n,) of all these cells, slice after slice.
    """
    blocks: list[NDArray[np.int64]] = []
    for name, mask in masks.items():
        pos = np.asarray(slices[name].obsm[_keys.SPATIAL], dtype=np.float64)[mask]
        first = 1 + int(blocks[-1].max()) if blocks else 0
        blocks.append(first + spatial_blocks(pos, n_blocks=min(_N_BLOCKS, len(pos))))
    return np.concatenate(blocks)


@dataclass(frozen=True)
class _Judged:
    """What a head said of the validation cells, how good that is, and how good on draws of their blocks."""

    head: ViewHead
    said: NDArray[np.float64]
    score: float
    drawn: NDArray[np.float64]


def _preferred(tried: Sequence[_Judged]) -> _Judged:
    """The first head of a view that is not clearly worse than its best."""
    best = max(tried, key=lambda each: each.score)
    return next(each for each in tried if best.score - each.score <= np.std(best.drawn - each.drawn))


def _score(truth: NDArray[Any], said: NDArray[np.float64]) -> float:
    if truth.ndim == 1:
        return macro_f1(truth, said.argmax(axis=1))
    # Of all columns together: one that hardly varies on these cells must not decide.
    left = ((said - truth) ** 2).sum()
    return 1 - float(left / max(((truth - truth.mean(axis=0)) ** 2).sum(), 1e-12))


def _draws(blocks: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of blocks drawn with replacement."""
    rng = np.random.default_rng(0)
    order = np.argsort(blocks, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(blocks[order])) + 1)
    return [np.concatenate([members[b] for b in rng.integers(len(members), size=len(members))]) for _ in range(_DRAWS)]
