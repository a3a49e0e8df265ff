"""A model of stgraph trained end to end on the labels of some cells."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, cast, get_args

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy.special import softmax

from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.metrics.classification import classification_scores
from stgraph.objectives.base import Objective, WeightedSum
from stgraph.objectives.cell_truth import CellClasses, CellValues
from stgraph.partition.base import Partitioner
from stgraph.partition.metis import Metis
from stgraph.tasks.folds import Fold, Masks
from stgraph.tasks.learned import LearnedEncoder, ModelEncoder
from stgraph.tasks.linear_start import Linear, best_of, linear_classifiers, linear_regressors
from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
from stgraph.tasks.target import UNKNOWN, Target
from stgraph.tasks.tunable import Truth, Tunable, Tuned, known_truth
from stgraph.tasks.tunable_graphs import TunableGraphs
from stgraph.tasks.tunable_neighborhoods import TunableNeighborhoods
from stgraph.training.loop import Trainer
from stgraph.training.supervised import JudgedTrainer, WatchedRun
from stgraph.training.tracking import progress_bar

ClassWeight = Literal["balanced"]


@dataclass
class FineTuned:
    """A network and a head on it, trained together on the training cells of a fold.

    The network starts from what ``encoder`` learnt without labels. To train from scratch,
    give one that learnt nothing: its ``trainer`` is `stgraph.training.untrained.Untrained`.

    The head starts as a linear one on the frozen network (Kumar et al. 2022: else the noise
    of a random head spoils what the network knows, and a few hundred steps leave it
    undertrained). Labels of other than training cells are hidden before a batch is made.
    Before the first step and after each epoch the validation cells are predicted, and the
    weights that do best on them are kept (macro F1 of classes, squared error of values);
    without validation cells those of the last epoch.

    Parameters
    ----------
    encoder
        Where the network comes from; fitted on the slices the fold allows, without labels. A model of slice graphs, or
        a `stgraph.tasks.neighborhood_encoder.NeighborhoodEncoder`, whose head reads the embedding of the centre.
    head_channels
        Widths of hidden layers of the head beside its linear one; none for a linear head.
    dropout
        Of what the head reads, and of its hidden layers.
    class_weight
        ``"balanced"``: classes count alike, however many cells they have. None: cells do.
    partitioner
        How slices are cut into parts, for a model of graphs. Parts have as many hops of context as the network
        has layers, so this is only a matter of memory and of what makes a step.
    trainer
        How it is trained; ``max_steps`` is the most it may take.
    patience
        Epochs in a row without gain after which training ends.
    progress
        Whether to draw a progress bar on standard error.
    random_state
        Seed of the head and of the training, in place of the trainer's.
    epochs
        How often every training cell is seen at most, in place of the trainer's ``max_steps``; None for those.
    warmup
        Share of all steps in which the learning rate rises, in place of the trainer's ``warmup_steps``; None for those.

    Attributes
    ----------
    model
        The trained network with its head, and what it needs to read a slice.
    run
        The record of training.

    References
    ----------
    Kumar et al., "Fine-tuning can distort pretrained features and underperform
    out-of-distribution", ICLR 2022.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.fine_tune import FineTuned
    >>> from stgraph.tasks.learned import LearnedEncoder
    >>> from stgraph.tasks.splits import RandomCells
    >>> from stgraph.tasks.target import label_target
    >>> from stgraph.training.loop import Trainer
    >>> from stgraph.training.untrained import Untrained
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]}
    >>> target, fold = label_target(slices, "domain"), RandomCells().folds(slices)[0]
    >>> from_scratch = LearnedEncoder({"trainer": Untrained()})
    >>> tuned = FineTuned(from_scratch, trainer=Trainer(max_steps=2))
    >>> tuned.learn(slices, target, fold).predict(slices["a"]).shape
    (200, 7)
    """

    encoder: ModelEncoder | NeighborhoodEncoder = field(default_factory=LearnedEncoder)
    head_channels: Sequence[int] = ()
    dropout: float = 0.0
    class_weight: ClassWeight | None = None
    partitioner: Partitioner = field(default_factory=Metis)
    trainer: Trainer = field(default_factory=lambda: Trainer(max_steps=400, lr=1e-3))
    patience: int = 10
    progress: bool = False
    random_state: int = 0
    epochs: int | None = None
    warmup: float | None = None
    model: Tuned | None = field(default=None, init=False, repr=False)
    run: WatchedRun | None = field(default=None, init=False, repr=False)
    _tunable: Tunable | None = field(default=None, init=False, repr=False)
    _target: Target | None = field(default=None, init=False, repr=False)
    _scale: "_Scale | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_whole(self, "patience")
        check_whole(self, "random_state", least=0)
        if self.epochs is not None:
            check_whole(self, "epochs")
        if self.warmup is not None and not 0 <= self.warmup < 1:
            raise InputError(f"FineTuned needs a warmup from 0 to below 1, a share of its steps, not {self.warmup!r}.")
        if any(isinstance(width, bool) or not isinstance(width, int) or width < 1 for width in self.head_channels):
            raise InputError(f"FineTuned needs positive whole numbers as head_channels, not {self.head_channels!r}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"FineTuned needs dropout from 0 to below 1, not {self.dropout!r}.")
        if self.class_weight is not None and self.class_weight not in get_args(ClassWeight):
            raise InputError(f"FineTuned's class_weight must be 'balanced' or None, not {self.class_weight!r}.")

    def learn(self, slices: Mapping[str, AnnData], target: Target, fold: Fold) -> Self:
        """Fit the encoder without labels, then network and head on the training cells.

        Parameters
        ----------
        slices
            By name; those the fold does not name are not looked at.
        target
            The truth.
        fold
            Whose truth counts.

        Returns
        -------
        FineTuned
            Itself.

        Raises
        ------
        InputError
            If no training cell has a truth.
        TrainingError
            If the loss stops being finite.
        """
        fold = fold.of(target)
        if not fold.train:
            raise InputError(f"No cell to learn '{target.name}' from in fold '{fold.name}' of {', '.join(slices)}.")
        names = [*fold.train, *fold.validation]
        tunable = self._fitted([slices[name] for name in fold.fit_on], slices, names)
        truth, validation = _shown(target, fold.train), _shown(target, fold.validation)
        scale = _Scale.of(truth) if target.kind == "values" else None
        if scale is not None:
            truth, validation = ({name: scale.to(y) for name, y in of.items()} for of in (truth, validation))
        tuned = self._begin(tunable, target, truth, validation)

        def judge() -> float:
            return _loss(tunable.said(tuned, validation), known_truth(validation))

        data, trainer = tunable.data(truth), replace(self.trainer, random_state=self.random_state)
        if self.epochs is not None:
            trainer = replace(trainer, max_steps=self.epochs * trainer.steps_in(data))
        if self.warmup is not None:
            trainer = replace(trainer, warmup_steps=round(self.warmup * trainer.max_steps))
        with progress_bar(trainer.max_steps) if self.progress else nullcontext(None) as show:
            self.run = JudgedTrainer(trainer, self.patience).fit(
                tuned.model,
                data,
                WeightedSum([self._objective(target, truth)]),
                judge=judge if validation else None,
                on_step=show,
            )
        self.model, self._tunable, self._target, self._scale = tuned, tunable, target, scale
        return self

    def predict(self, adata: AnnData) -> NDArray[np.float64]:
        """(N, K) probabilities of the classes, or (N, D) values, of the cells of one slice."""
        if self.model is None or self._tunable is None:
            raise InputError("FineTuned has learnt nothing yet: call learn(slices, target, fold) first.")
        said = self._tunable.predict(self.model, adata).astype(np.float64)
        if self._scale is not None:
            return self._scale.back(said)
        return np.asarray(softmax(said, axis=1))

    def _objective(self, target: Target, truth: Mapping[str, NDArray[Any]]) -> Objective:
        if target.kind == "values":
            return cast(Objective, CellValues())
        if self.class_weight is None:
            return cast(Objective, CellClasses())
        classes = known_truth(truth)
        count = np.bincount(classes, minlength=len(target.names))
        weights = np.where(count > 0, len(classes) / np.maximum(count, 1) / (count > 0).sum(), 0.0)
        return cast(Objective, CellClasses(tuple(weights.tolist())))

    def _fitted(
        self, fit_on: Sequence[AnnData], slices: Mapping[str, AnnData], names: Sequence[str]
    ) -> TunableGraphs | TunableNeighborhoods:
        """What the encoder learns without labels, with the slices that have some."""
        if isinstance(self.encoder, NeighborhoodEncoder):
            return TunableNeighborhoods(self.encoder.fit(fit_on), slices, names, self.random_state)
        start = self.encoder.fit(fit_on).pretrained
        assert start is not None
        return TunableGraphs(start, slices, names, self.partitioner)

    def _begin(self, tunable: Tunable, target: Target, truth: Truth, validation: Truth) -> Tuned:
        """The model before the first step: the network as it was given, and a linear head learnt on it."""
        x, y = tunable.read(truth), known_truth(truth)
        if target.kind == "classes":
            heads = linear_classifiers(x, y, len(target.names), balanced=self.class_weight == "balanced")
        else:
            heads = linear_regressors(x, y)
        x_val = tunable.read(validation) if validation else x

        def loss(head: Linear) -> float:
            return _loss(head(x_val), known_truth(validation))

        best = best_of(heads, loss if validation else None)
        with torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            tuned = tunable.begin(len(target.names), self.head_channels, self.dropout)
        tuned.model.start_from(torch.from_numpy(best.weight), torch.from_numpy(best.bias))
        return tuned


@dataclass(frozen=True)
class _Scale:
    """Mean and spread of values over the training cells."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, truth: Mapping[str, NDArray[Any]]) -> "_Scale":
        values = known_truth(truth)
        spread = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(spread > 0, spread, 1.0))

    def to(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray((values - self.mean) / self.spread)

    def back(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(values * self.spread + self.mean)


def _shown(target: Target, masks: Masks) -> dict[str, NDArray[Any]]:
    """The truth of the cells of a mask; that of all others is hidden."""
    shown = {}
    for name, mask in masks.items():
        truth = target.of[name]
        hidden = UNKNOWN if target.kind == "classes" else np.nan
        shown[name] = np.where(mask if truth.ndim == 1 else mask[:, None], truth, hidden)
    return shown


def _loss(said: NDArray[np.floating], truth: NDArray[Any]) -> float:
    """How bad predictions are, by what they will be judged by."""
    if truth.ndim == 2:
        return float(np.mean((said - truth) ** 2))
    return 1 - classification_scores(truth, softmax(said.astype(np.float64), axis=1))["macro_f1"]
