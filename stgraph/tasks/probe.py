"""A frozen description and a head on it: the plainest way to learn labels, and the hardest to beat."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning

from stgraph.baselines.advice import WHOLE, copies_of, views_of
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError
from stgraph.tasks.folds import Fold, Masks
from stgraph.tasks.head_choice import ViewHead, choose_heads, validation_blocks
from stgraph.tasks.heads import classifiers, regressors
from stgraph.tasks.target import Target
from stgraph.tasks.view_mixing import sharpened


@dataclass
class Probe:
    """The head that does best on the validation cells, on a description that is not trained further.

    Descriptions are centred, and divided by one number, with the cells of the slices that are
    learnt from: never with those of the slice they are read from, which would hide that its
    tissue is composed otherwise, and not channel by channel, which would raise the noise of
    the small ones (a nearest-neighbour head falls from .79 to .64 between slices of cortex).
    Heads stand in an order, the most trusted first, and the first is taken whose loss to the best
    is no more than its standard error over blocks of the validation cells (the rule of
    Breiman and others, 1984): a few blocks of one slice are a poor judge of small differences,
    and what they prefer by a hair is often what fits this slice only. The head that is chosen
    is trained again on training and validation cells together.

    Parameters
    ----------
    encoder
        What describes the cells. It is fitted on the slices the fold allows, without labels.
    heads
        Estimators of scikit-learn to choose from, in that order; None for `stgraph.tasks.heads`.
    view
        View of the description to read (`stgraph.baselines.advice.HasViews`); None to weigh
        all that there are. Most descriptions have one only.

    Attributes
    ----------
    chosen
        The head of the view that counts most, once `learn` was called.
    read
        That view.
    shares
        How much each view counts that does, by name.
    why
        One sentence on that.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.probe import Probe
    >>> from stgraph.tasks.splits import RandomCells
    >>> from stgraph.tasks.target import label_target
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]}
    >>> target = label_target(slices, "domain")
    >>> fold = RandomCells().folds(slices)[0]
    >>> Probe(LogPCA(n_components=5)).learn(slices, target, fold).predict(slices["a"]).shape[0]
    200
    """

    encoder: SliceEncoder
    heads: Sequence[BaseEstimator] | None = None
    view: str | None = None
    chosen: Any = field(default=None, init=False, repr=False)
    read: str = field(default=WHOLE, init=False, repr=False)
    shares: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    why: str = field(default="", init=False, repr=False)
    _mixed: tuple[ViewHead, ...] = field(default=(), init=False, repr=False)
    _target: Target | None = field(default=None, init=False, repr=False)
    _centre: Any = field(default=None, init=False, repr=False)
    _spread: float = field(default=1.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.heads is not None and len(self.heads) == 0:
            raise InputError("Probe needs a head at least: leave heads out for those that come with stgraph.")

    def learn(self, slices: Mapping[str, AnnData], target: Target, fold: Fold) -> Self:
        """Fit the description without labels, and the heads on training cells.

        Parameters
        ----------
        slices
            By name; those the fold does not name are not looked at.
        target
            The truth.
        fold
            Whose truth counts. Without validation cells the first head is taken.

        Returns
        -------
        Probe
            Itself.

        Raises
        ------
        InputError
            If no training cell has a truth, or no head can be trained on so few.
        """
        described, copied, fold = self._described(slices, target, fold)
        x, y = _rows(described, target, fold.train, copied)
        heads = list(self.heads or (classifiers() if target.kind == "classes" else regressors()))
        tried = [ViewHead(name, columns, head) for name, columns in self._views().items() for head in heads]
        if not fold.validation:
            self._take([self._fitted(tried[0], x, y)])
            self.why = "the first head, for no cell is there to choose by"
            return self
        # Copies are to learn from; what is chosen is judged on cells as they are.
        x_val, y_val = _rows(described, target, fold.validation)
        best, self.why = [tried[0]], "the only head"
        if len(tried) > 1:
            best, self.why = choose_heads(
                tried,
                lambda head: self._say(self._fitted(head, x, y), x_val),
                y_val,
                validation_blocks(slices, fold.validation),
            )
        if any(copied.values()):
            x_val, y_val = _rows(described, target, fold.validation, copied)
        x, y = np.concatenate([x, x_val]), np.concatenate([y, y_val])
        self._take([self._fitted(viewed, x, y) for viewed in best])
        return self

    def relearn(self, slices: Mapping[str, AnnData], target: Target, fold: Fold) -> Self:
        """Fit the description, and the heads that `learn` chose, anew on other training cells.

        Parameters
        ----------
        slices, target, fold
            As for `learn`; validation cells are not looked at, for nothing is chosen.

        Returns
        -------
        Probe
            Itself.
        """
        if not self._mixed:
            raise InputError("The probe has chosen nothing yet: call learn(slices, target, fold) first.")
        described, copied, fold = self._described(slices, target, fold)
        x, y = _rows(described, target, fold.train, copied)
        views = self._views()  # a new fit may have other widths
        self._take([self._fitted(replace(each, columns=views[each.view]), x, y) for each in self._mixed])
        return self

    def _described(
        self, slices: Mapping[str, AnnData], target: Target, fold: Fold
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, list[NDArray[np.float32]]], Fold]:
        """Descriptions of slices and of their copies, and the fold of cells with a truth."""
        fold = fold.of(target)
        if not fold.train:
            raise InputError(f"No cell to learn '{target.name}' from in fold '{fold.name}' of {', '.join(slices)}.")
        self.encoder.fit([slices[name] for name in fold.fit_on])
        described = {name: self.encoder.transform(slices[name]) for name in {**fold.train, **fold.validation}}
        copied = {
            name: [self.encoder.transform(copy) for copy in copies_of(self.encoder, slices[name])] for name in described
        }
        self._target = target
        self._scale_by([described[name] for name in fold.train])
        return described, copied, fold

    def _take(self, mixed: Sequence[ViewHead]) -> None:
        first = max(mixed, key=lambda each: each.share)
        self.chosen, self.read, self._mixed = first.head, first.view, tuple(mixed)
        self.shares = {each.view: each.share for each in mixed}

    def _views(self) -> dict[str, slice]:
        views = views_of(self.encoder)
        if self.view is None:
            return views
        if self.view not in views:
            raise InputError(f"The description has no view '{self.view}'; it has: {', '.join(views)}.")
        return {self.view: views[self.view]}

    def predict(self, adata: AnnData) -> NDArray[np.float64]:
        """(N, K) probabilities of the classes, or (N, D) values."""
        if not self._mixed:
            raise InputError("The probe has learnt nothing yet: call learn(slices, target, fold) first.")
        x = self.encoder.transform(adata)
        if len(self._mixed) == 1:
            return self._say(self._mixed[0], x)
        return np.asarray(sum(each.share * self._evened(each, self._say(each, x)) for each in self._mixed))

    def _evened(self, viewed: ViewHead, said: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a head says, as sure as it may be."""
        assert self._target is not None
        return said if self._target.kind == "values" else sharpened(said, viewed.power)

    def _scale_by(self, described: Sequence[NDArray[np.float32]]) -> None:
        x = np.concatenate(described).astype(np.float64)
        self._centre = x.mean(axis=0)
        self._spread = float(np.sqrt(x.var(axis=0).mean())) or 1.0

    def _scaled(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray((x - self._centre) / self._spread)

    def _fitted(self, viewed: ViewHead, x: NDArray[np.float32], y: NDArray[Any]) -> ViewHead:
        head = viewed.head
        if y.ndim == 1 and len(np.unique(y)) == 1:
            return replace(viewed, head=DummyClassifier().fit(x[:, viewed.columns], y))
        with warnings.catch_warnings():
            # A head that is still creeping has found its direction; validation judges it like any other.
            warnings.simplefilter("ignore", ConvergenceWarning)
            # Descriptions may have constant or collinear columns, and classes a single cell.
            warnings.filterwarnings("ignore", "Variables are collinear|Only one sample available", UserWarning)
            try:
                return replace(viewed, head=clone(head).fit(self._scaled(x)[:, viewed.columns], y))
            except ValueError as error:
                raise InputError(
                    f"The head {head} cannot be trained on {len(y)} cells ({error}): give more, or another head."
                ) from error

    def _say(self, viewed: ViewHead, x: NDArray[np.float32]) -> NDArray[np.float64]:
        assert self._target is not None
        head, scaled = viewed.head, self._scaled(x)[:, viewed.columns]
        if self._target.kind == "values":
            return np.asarray(head.predict(scaled), dtype=np.float64).reshape(len(x), -1)
        # A class that was not seen in training has no chance.
        said = np.zeros((len(x), len(self._target.names)))
        said[:, head.classes_] = head.predict_proba(scaled)
        return said


def _rows(
    described: Mapping[str, NDArray[np.float32]],
    target: Target,
    masks: Masks,
    copied: Mapping[str, Sequence[NDArray[np.float32]]] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Description and truth of the cells of all slices that a mask names, and of their copies."""
    pairs = [
        (x[mask], target.of[name][mask])
        for name, mask in masks.items()
        for x in (described[name], *((copied or {}).get(name, ())))
    ]
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])
