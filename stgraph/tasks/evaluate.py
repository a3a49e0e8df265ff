"""The one loop over folds that every task with a truth goes through."""

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from stgraph import _keys
from stgraph.baselines.advice import WHOLE
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError, StgraphWarning
from stgraph.metrics.classification import classification_scores
from stgraph.metrics.intervals import block_bootstrap, spatial_blocks
from stgraph.metrics.regression import regression_scores
from stgraph.tasks.folds import Fold, Split
from stgraph.tasks.given import check_model, check_slices, check_split
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.probe import Probe
from stgraph.tasks.remembered import Remembered
from stgraph.tasks.result import COLUMNS, TaskResult
from stgraph.tasks.shifts import Shift
from stgraph.tasks.target import Target
from stgraph.tasks.unlabelled import unlabelled

BLOCKS = 25
"""Blocks of a slice that are drawn for intervals."""


def evaluate(
    task: str,
    target: Target,
    slices: Mapping[str, AnnData],
    model: SliceEncoder | Predictor,
    split: Split,
    *,
    heads: Sequence[BaseEstimator] | None = None,
    shift: Shift | None = None,
    n_draws: int = 200,
    random_state: int = 0,
) -> TaskResult:
    """Learn on some cells, choose on others, judge on the rest, in each fold of a split.

    A model never gets what it could cheat with: slices reach it without annotations
    (`stgraph.tasks.unlabelled.unlabelled`), only those the fold allows before it is judged,
    and of the truth the training and validation cells alone. Each fold begins anew.

    The judged cells of a slice are pooled over folds before they are scored, so that a
    class that is rare in one fold does not decide. Over blocks, a description that tells
    nothing scores below chance in the area under the ROC curve: where a class is judged
    much, little was learnt of it.

    Parameters
    ----------
    task
        Name in the table.
    target
        The truth.
    slices
        Canonical slices, by name.
    model
        What describes cells, with heads on it; or what learns labels itself. It is copied.
    split
        Whose truth is learnt from.
    heads
        As in `stgraph.tasks.probe.Probe`; for a model that only describes.
    shift
        What is done to a slice before its cells are judged, or to all slices where the
        shift says so; cells it takes away are not judged.
    n_draws
        Draws of the bootstrap over blocks of a slice.
    random_state
        Seed of the split, the shift and the bootstrap.

    Returns
    -------
    TaskResult
        A row for each slice and metric; copies of the slices with predictions in
        ``obs["stgraph_predicted_TARGET"]`` and ``obs["stgraph_predicted_TARGET_confidence"]``, or
        ``obsm["stgraph_predicted_TARGET"]``, missing where a cell was not judged.

    Raises
    ------
    InputError
        If heads are given for a model that has its own, or no fold has cells to learn from
        and to judge.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.evaluate import evaluate
    >>> from stgraph.tasks.splits import SpatialBlocks
    >>> from stgraph.tasks.target import label_target
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]}
    >>> target, split = label_target(slices, "domain"), SpatialBlocks(n_folds=3)
    >>> result = evaluate("regions", target, slices, LogPCA(n_components=5), split, n_draws=10)
    >>> result.table["metric"].tolist()
    ['accuracy', 'macro_f1', 'weighted_f1', 'mcc', 'auroc']
    """
    check_slices(slices)
    check_split(split)
    check_model(model)
    learner = _Learner.of(model, heads)
    blind = {name: unlabelled(adata) for name, adata in slices.items()}
    if shift is not None and shift.everywhere:
        blind = {name: shift(adata, random_state=random_state) for name, adata in blind.items()}
    shifted = _Shifted(blind, None if shift is None or shift.everywhere else shift, random_state)
    said: dict[str, NDArray[np.float64]] = {}
    notes: list[str] = []
    for whole in split.folds(slices, random_state=random_state):
        fold = whole.of(target)
        if not fold.train or not fold.test:
            notes.append(f"fold '{fold.name}' has no cell to {'judge' if fold.train else 'learn from'}: left out")
            continue
        predictor = learner.learnt(blind, target, fold, notes)
        for name, mask in fold.test.items():
            if name not in said:
                said[name] = np.full((len(mask), len(target.names)), np.nan)
            cells, values = shifted.predict(predictor, name, notes)
            judged = mask[cells]
            said[name][cells[judged]] = values[judged]
    if not said:
        raise InputError(f"{task}: no fold of '{split.name}' has both cells to learn from and cells to judge: {notes}.")
    rows = [
        {
            "task": task,
            "target": target.name,
            "split": split.name,
            "leaks": split.leaks,
            "shift": "none" if shift is None else shift.name,
            "slice": name,
            **row,
        }
        for name, values in said.items()
        for row in _scores(target, name, values, slices[name], n_draws, random_state)
    ]
    adatas = {name: _annotated(slices[name], target, values) for name, values in said.items()}
    return TaskResult(pd.DataFrame(rows, columns=list(COLUMNS)), adatas, notes)


@dataclass
class _Learner:
    """Makes a fresh learner for each fold, and shows it what it may see."""

    model: Predictor

    @classmethod
    def of(cls, model: SliceEncoder | Predictor, heads: Sequence[BaseEstimator] | None) -> "_Learner":
        """A probe of what only describes; each description is computed once for all folds."""
        if isinstance(model, Probe):
            heads = model.heads if heads is None else heads
            model = model.encoder
        if not hasattr(model, "learn"):
            return cls(Probe(model if isinstance(model, Remembered) else Remembered(model), heads))
        if heads is not None:
            raise InputError(f"{type(model).__name__} learns labels itself, so it takes no heads: leave them out.")
        return cls(cast(Predictor, model))

    def learnt(self, blind: Mapping[str, AnnData], target: Target, fold: Fold, notes: list[str]) -> Predictor:
        if isinstance(self.model, Probe):
            predictor: Predictor = Probe(self.model.encoder, self.model.heads, self.model.view)
        else:
            predictor = deepcopy(self.model)
        known = {name: np.zeros_like(mask) for name, mask in [*fold.train.items(), *fold.validation.items()]}
        for masks in (fold.train, fold.validation):
            for name, mask in masks.items():
                known[name] |= mask
        shown = target.shown(known)
        predictor.learn({name: blind[name] for name in fold.fit_on}, shown, fold.shown())
        if isinstance(predictor, Probe):
            head = " ".join(str(predictor.chosen).split())
            read = "" if predictor.read == WHOLE else f" on '{predictor.read}'"
            notes.append(f"fold '{fold.name}': {head}{read}, {predictor.why}")
        if target.kind == "classes":
            learnt = {int(c) for name in known for c in np.unique(shown.of[name])}
            judged = {int(c) for name, mask in fold.test.items() for c in np.unique(target.of[name][mask])}
            unseen = [target.names[c] for c in sorted(judged - learnt)]
            if unseen:
                notes.append(f"fold '{fold.name}': no cell to learn {', '.join(unseen)} from, though some are judged")
        return predictor


@dataclass
class _Shifted:
    """Slices as they are judged: each is shifted once, alike in all folds."""

    blind: Mapping[str, AnnData]
    shift: Shift | None
    random_state: int
    _made: dict[str, AnnData] = field(default_factory=dict)

    def predict(
        self, predictor: Predictor, name: str, notes: list[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows of the slice that are left after the shift, and what is said of them."""
        adata = self.blind[name]
        if self.shift is None:
            return np.arange(adata.n_obs), predictor.predict(adata)
        if name not in self._made:
            self._made[name] = self.shift(adata, random_state=self.random_state)
        rows = adata.obs_names.get_indexer(self._made[name].obs_names)
        # What is missing was taken away on purpose: a note will do.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", StgraphWarning)
            values = predictor.predict(self._made[name])
        for warning in caught:
            if not issubclass(warning.category, StgraphWarning):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
            elif (note := f"{name}, {self.shift.name}: {warning.message}") not in notes:
                notes.append(note)
        return np.asarray(rows, dtype=np.int64), values


def _scores(
    target: Target, name: str, said: NDArray[np.float64], adata: AnnData, n_draws: int, random_state: int
) -> list[dict[str, Any]]:
    """Value and interval of each metric, over the judged cells of a slice."""
    which = ~np.isnan(said).any(axis=1)
    if not which.any():
        return []
    truth, given = target.of[name][which], said[which]
    blocks = spatial_blocks(adata.obsm[_keys.SPATIAL][which], n_blocks=min(BLOCKS, len(truth)))
    drawn: dict[bytes, dict[str, float]] = {}

    def score(rows: NDArray[np.int64]) -> dict[str, float]:
        # The draws are the same for each metric, which are computed together.
        key = rows.tobytes()
        if key not in drawn:
            judge = classification_scores if target.kind == "classes" else regression_scores
            drawn[key] = judge(truth[rows], given[rows])
        return drawn[key]

    rows = []
    for metric, value in score(np.arange(len(truth))).items():

        def one(rows: NDArray[np.int64], metric: str = metric) -> float:
            return score(rows)[metric]

        low, high = block_bootstrap(one, blocks, n_draws=n_draws, random_state=random_state)
        rows.append({"metric": metric, "value": value, "low": low, "high": high, "n_cells": len(truth)})
    return rows


def _annotated(adata: AnnData, target: Target, said: NDArray[np.float64]) -> AnnData:
    """A copy with predictions."""
    out = adata.copy()
    key = _keys.PREDICTION.format(target=target.name)
    if target.kind == "values":
        out.obsm[key] = said.astype(np.float32)
        return out
    judged = ~np.isnan(said).any(axis=1)
    codes = np.where(judged, np.nan_to_num(said).argmax(axis=1), -1)
    out.obs[key] = pd.Categorical.from_codes(codes.tolist(), categories=pd.Index(target.names))
    confidence = np.where(judged, np.nan_to_num(said).max(axis=1), np.nan)
    out.obs[_keys.CONFIDENCE.format(target=target.name)] = confidence.astype(np.float32)
    return out
