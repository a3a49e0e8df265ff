"""A model of stgraph trained end to end on the labels of some cells."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, cast, get_args

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy.special import softmax
from torch.utils.data import Subset
from torch_geometric.transforms import Compose

from stgraph.data.box import SliceBox
from stgraph.data.parts import PartDataset
from stgraph.data.truth import CellTruth
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.graph.slice_graph import SliceGraph
from stgraph.metrics.classification import classification_scores
from stgraph.models.cell_predictor import CellPredictor, CellReader
from stgraph.objectives.base import Objective, WeightedSum
from stgraph.objectives.cell_truth import CellClasses, CellValues
from stgraph.partition.base import Partitioner
from stgraph.partition.metis import Metis
from stgraph.partition.spatial import CoordinateBisection
from stgraph.tasks.folds import Fold, Masks
from stgraph.tasks.learned import LearnedEncoder, ModelEncoder
from stgraph.tasks.linear_start import Linear, best_of, linear_classifiers, linear_regressors
from stgraph.tasks.pretrained import Pretrained
from stgraph.tasks.target import UNKNOWN, Target
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
        Where the network comes from; fitted on the slices the fold allows, without labels.
    head_channels
        Widths of hidden layers of the head beside its linear one; none for a linear head.
    dropout
        Of what the head reads, and of its hidden layers.
    class_weight
        ``"balanced"``: classes count alike, however many cells they have. None: cells do.
    partitioner
        How slices are cut into parts. Parts have as many hops of context as the network
        has layers, so this is only a matter of memory and of what makes a step.
    trainer
        How it is trained; ``max_steps`` is the most it may take.
    patience
        Epochs in a row without gain after which training ends.
    progress
        Whether to draw a progress bar on standard error.
    random_state
        Seed of the head and of the training, in place of the trainer's.

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

    encoder: ModelEncoder = field(default_factory=LearnedEncoder)
    head_channels: Sequence[int] = ()
    dropout: float = 0.0
    class_weight: ClassWeight | None = None
    partitioner: Partitioner = field(default_factory=Metis)
    trainer: Trainer = field(default_factory=lambda: Trainer(max_steps=400, lr=1e-3))
    patience: int = 10
    progress: bool = False
    random_state: int = 0
    model: Pretrained | None = field(default=None, init=False, repr=False)
    run: WatchedRun | None = field(default=None, init=False, repr=False)
    _target: Target | None = field(default=None, init=False, repr=False)
    _scale: "_Scale | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_whole(self, "patience")
        check_whole(self, "random_state", least=0)
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
        start = self.encoder.fit([slices[name] for name in fold.fit_on]).pretrained
        assert start is not None
        # Under the names of the fold, which are those of the truth.
        names = dict.fromkeys([*fold.train, *fold.validation])
        graphs = {name: replace(start.graph(slices[name]), slice_id=name) for name in names}
        truth, validation = _shown(target, fold.train), _shown(target, fold.validation)
        scale = _Scale.of(truth) if target.kind == "values" else None
        if scale is not None:
            truth, validation = ({name: scale.to(y) for name, y in of.items()} for of in (truth, validation))
        dataset = self._parts(start, [graphs[name] for name in fold.train], truth)
        model = self._begin(start, graphs, target, truth, validation)

        def judge() -> float:
            return _loss(*_rows({name: model.embed_graph(graphs[name]) for name in validation}, validation))

        trainer = replace(self.trainer, random_state=self.random_state)
        with progress_bar(trainer.max_steps) if self.progress else nullcontext(None) as show:
            self.run = JudgedTrainer(trainer, self.patience).fit(
                model.model,
                dataset,
                WeightedSum([self._objective(target, truth)]),
                judge=judge if validation else None,
                on_step=show,
            )
        self.model, self._target, self._scale = model, target, scale
        return self

    def predict(self, adata: AnnData) -> NDArray[np.float64]:
        """(N, K) probabilities of the classes, or (N, D) values, of the cells of one slice."""
        if self.model is None or self._target is None:
            raise InputError("FineTuned has learnt nothing yet: call learn(slices, target, fold) first.")
        said = self.model.embed_graph(self.model.graph(adata)).astype(np.float64)
        if self._scale is not None:
            return self._scale.back(said)
        return np.asarray(softmax(said, axis=1))

    def _objective(self, target: Target, truth: Mapping[str, NDArray[Any]]) -> Objective:
        if target.kind == "values":
            return cast(Objective, CellValues())
        if self.class_weight is None:
            return cast(Objective, CellClasses())
        known = np.concatenate([y[y != UNKNOWN] for y in truth.values()])
        count = np.bincount(known, minlength=len(target.names))
        weights = np.where(count > 0, len(known) / np.maximum(count, 1) / (count > 0).sum(), 0.0)
        return cast(Objective, CellClasses(tuple(weights.tolist())))

    def _parts(self, start: Pretrained, graphs: list[SliceGraph], truth: Mapping[str, NDArray[Any]]) -> Subset[Any]:
        """Parts with a cell to learn from, seen as they will be when the model predicts."""
        size = start.model.part_size
        dataset = PartDataset(
            graphs,
            CoordinateBisection(size) if size else self.partitioner,
            num_hops=0 if size else start.model.num_layers,
            transform=Compose([SliceBox(graphs), CellTruth(truth)]),
        )
        useful = []
        for number, name in enumerate(dataset.slice_of):
            part = dataset.part(number)
            if _known(truth[name][part.cells[part.owned]]).any():
                useful.append(number)
        return Subset(dataset, useful)

    def _begin(
        self,
        start: Pretrained,
        graphs: Mapping[str, SliceGraph],
        target: Target,
        truth: Mapping[str, NDArray[Any]],
        validation: Mapping[str, NDArray[Any]],
    ) -> Pretrained:
        """The model before the first step: the network as it was given, and a linear head learnt on it."""
        reader = replace(start, model=CellReader(start.model))
        read = {name: reader.embed_graph(graph) for name, graph in graphs.items()}
        x, y = _rows(read, truth)
        if target.kind == "classes":
            heads = linear_classifiers(x, y, len(target.names), balanced=self.class_weight == "balanced")
        else:
            heads = linear_regressors(x, y)

        def loss(head: Linear) -> float:
            x_val, y_val = _rows(read, validation)
            return _loss(head(x_val), y_val)

        best = best_of(heads, loss if validation else None)
        with torch.random.fork_rng():
            torch.manual_seed(self.random_state)
            model = CellPredictor(
                x.shape[1], len(target.names), deepcopy(start.model), self.head_channels, self.dropout
            ).eval()
        model.start_from(torch.from_numpy(best.weight), torch.from_numpy(best.bias))
        return replace(start, model=model, domains=None)


@dataclass(frozen=True)
class _Scale:
    """Mean and spread of values over the training cells."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, truth: Mapping[str, NDArray[Any]]) -> "_Scale":
        values = np.concatenate([y[_known(y)] for y in truth.values()])
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


def _known(truth: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(truth != UNKNOWN if truth.ndim == 1 else ~np.isnan(truth).any(axis=1))


def _rows(said: Mapping[str, NDArray[Any]], truth: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is said, and what is true, of the known cells of all slices that have a truth."""
    x = np.concatenate([said[name][_known(y)] for name, y in truth.items()])
    return x, np.concatenate([y[_known(y)] for y in truth.values()])


def _loss(said: NDArray[np.floating], truth: NDArray[Any]) -> float:
    """How bad predictions are, by what they will be judged by."""
    if truth.ndim == 2:
        return float(np.mean((said - truth) ** 2))
    return 1 - classification_scores(truth, softmax(said.astype(np.float64), axis=1))["macro_f1"]
