"""Labels of cells, learnt from a handful of annotated ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.tasks.evaluate import evaluate
from stgraph.tasks.folds import Fold, Split
from stgraph.tasks.given import check_model, check_split
from stgraph.tasks.heads import few_label_classifier
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.remembered import Remembered
from stgraph.tasks.result import TaskResult
from stgraph.tasks.target import Target, label_target


@dataclass(frozen=True)
class FewShot:
    """How well labels are learnt from 1, 5, 10 or 50 cells of each class.

    The cells are drawn from the training cells of each fold, and their labels are all there
    are: the validation cells are not used, for who has five labels of a class has no
    hundreds to choose settings by. The head is therefore fixed, and one for all numbers of
    cells.

    Parameters
    ----------
    key
        Column of ``obs``.
    n_cells
        Cells of each class, one run for each number. A class with fewer training cells in a
        fold gives all it has, and a note says so.
    n_repeats
        Draws of the cells.
    head
        Estimator of scikit-learn; None for `stgraph.tasks.heads.few_label_classifier`.
    n_draws
        Draws of the bootstrap over blocks of a slice, for each number of cells and draw.
    name
        Name in tables.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.few_shot import FewShot
    >>> from stgraph.tasks.splits import RandomCells
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]}
    >>> task = FewShot("domain", n_cells=(2,), n_repeats=1, n_draws=5)
    >>> set(task.run(slices, LogPCA(n_components=5), split=RandomCells()).table["n_labels"])
    {2}
    """

    key: str
    n_cells: Sequence[int] = (1, 5, 10, 50)
    n_repeats: int = 5
    head: BaseEstimator | None = None
    n_draws: int = 50
    name: str = "few_shot"

    def __post_init__(self) -> None:
        check_whole(self, "n_repeats")
        check_whole(self, "n_draws")
        if not self.n_cells or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in self.n_cells):
            raise InputError(f"FewShot needs n_cells of whole numbers of at least 1, not {self.n_cells!r}.")

    def run(
        self,
        slices: Mapping[str, AnnData],
        model: SliceEncoder | Predictor,
        *,
        split: Split,
        random_state: int = 0,
    ) -> TaskResult:
        """Learn from few cells and judge, in each fold, for each number of cells and draw.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        model
            What describes cells, or what learns labels itself.
        split
            Whose labels may be drawn; its folds are the same for all draws.
        random_state
            Seed of the split, the draws and the intervals.

        Returns
        -------
        TaskResult
            As of `stgraph.tasks.annotation.Annotation`, with columns ``n_labels`` and
            ``repeat``; the predictions are those of the first draw of most cells.

        Raises
        ------
        InputError
            If no slice has the column, or it has fewer than two classes.
        """
        check_split(split)
        check_model(model)
        target = label_target(slices, self.key)
        heads: list[BaseEstimator] | None = None
        if not hasattr(model, "learn"):
            model, heads = Remembered(model), [self.head or few_label_classifier()]
        elif self.head is not None:
            raise InputError(f"{type(model).__name__} learns labels itself, so it takes no head: leave it out.")
        tables: list[pd.DataFrame] = []
        notes: list[str] = []
        shown: dict[str, AnnData] = {}
        for n in sorted(self.n_cells):
            for repeat in range(self.n_repeats):
                few = _FewCells(split, target, n, repeat, notes)
                result = evaluate(
                    self.name, target, slices, model, few, heads=heads, n_draws=self.n_draws, random_state=random_state
                )
                tables.append(result.table.assign(n_labels=n, repeat=repeat))
                notes += [note for note in result.notes if note not in notes]
                if repeat == 0:
                    shown = result.adatas
        return TaskResult(pd.concat(tables, ignore_index=True), shown, notes)


@dataclass(frozen=True)
class _FewCells:
    """A split of which a few training cells of each class are left, and no validation cells."""

    split: Split
    target: Target
    n_cells: int
    repeat: int
    notes: list[str]

    @property
    def name(self) -> str:
        return self.split.name

    @property
    def leaks(self) -> bool:
        return self.split.leaks

    def folds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> list[Fold]:
        folds = self.split.folds(slices, random_state=random_state)
        return [self._few(fold, number, random_state) for number, fold in enumerate(folds)]

    def _few(self, fold: Fold, number: int, random_state: int) -> Fold:
        rng = np.random.default_rng([random_state, self.repeat, self.n_cells, number])
        train = fold.of(self.target).train
        rows = [(name, row) for name, mask in train.items() for row in np.flatnonzero(mask)]
        classes = np.array([self.target.of[name][row] for name, row in rows], dtype=np.int64)
        kept: dict[str, NDArray[np.bool_]] = {}
        for code in np.unique(classes):
            of_class = rng.permutation(np.flatnonzero(classes == code))[: self.n_cells]
            if len(of_class) < self.n_cells:
                note = (
                    f"fold '{fold.name}': '{self.target.names[code]}' has {len(of_class)} training cells, "
                    f"fewer than {self.n_cells}"
                )
                if note not in self.notes:
                    self.notes.append(note)
            for name, row in (rows[i] for i in of_class):
                kept.setdefault(name, np.zeros_like(train[name]))[row] = True
        return Fold(fold.name, fold.fit_on, kept, {}, fold.test)
