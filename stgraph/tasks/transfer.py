"""Labels of one tissue carried over to another that has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from stgraph import _keys
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError
from stgraph.metrics.intervals import spatial_blocks
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.annotation import Annotation
from stgraph.tasks.folds import Fold, Split
from stgraph.tasks.heads import Narrow
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.probe import Probe
from stgraph.tasks.remembered import Remembered
from stgraph.tasks.result import TaskResult
from stgraph.tasks.shifts import Shift
from stgraph.tasks.target import label_target
from stgraph.tasks.unlabelled import unlabelled

ENTROPY = "stgraph_predicted_{target}_entropy"
"""``obs``, (N,) float32: entropy of the probabilities of the classes, 0 for certain, 1 for even."""

NOVELTY = "stgraph_predicted_{target}_novelty"
"""``obs``, (N,) float32: share of the reference cells that lie less far from their like than the cell does."""

_NEAREST = 15
_BLOCKS = 4


def transfer_labels(
    reference: AnnData | Sequence[AnnData],
    query: AnnData,
    *,
    key: str,
    encoder: SliceEncoder | None = None,
    head: BaseEstimator | None = None,
) -> AnnData:
    """Labels for a slice, from others that have them.

    A description is learnt from the reference, a head on it from the labels, and both are
    used on the query. How sure a label is is told in three ways: the probability of the
    class and the entropy of all, which know of the classes of the reference only, and the
    novelty, which asks whether the reference has such cells at all. It is the share of the
    reference cells that are nearer to their 15 nearest in other sections of the reference (of
    a single section, in other blocks of it): even from 0 to 1 for cells like those of the
    reference, near 1 for a type it lacks, or for another batch, if the description does not
    look through it. A reference of several sections tells how much sections differ anyway;
    a single one cannot.

    Parameters
    ----------
    reference
        Canonical slices with the column, each one section.
    query
        A canonical slice; a column of that name in it is not looked at.
    key
        Column of ``obs`` in the reference; cells without a label are not learnt from.
    encoder
        What describes cells; it is not changed. None for 50 principal components of log
        counts, for cell types; for regions give one that looks at neighbours, as
        `stgraph.baselines.SmoothGeneMeans`.
    head
        Estimator of scikit-learn with ``predict_proba``; None for discriminant analysis with
        shrinkage. ``KNeighborsClassifier(15, weights="distance")`` is on a par with it
        for regions (macro F1 .79 and .78 against .77 and .80 between two slices of cortex), and
        behind for cell types (.54 and .55 against .57 and .60 between animals).

    Returns
    -------
    AnnData
        A copy of the query with ``obs["stgraph_predicted_KEY"]``, ``"stgraph_predicted_KEY_confidence"``,
        ``"stgraph_predicted_KEY_entropy"`` and ``"stgraph_predicted_KEY_novelty"``.

    Raises
    ------
    InputError
        If the reference has fewer than two classes.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.transfer import transfer_labels
    >>> reference, query = stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2)
    >>> list(transfer_labels(reference, query, key="cell_type").obs.columns)[4:6]
    ['stgraph_predicted_cell_type_confidence', 'stgraph_predicted_cell_type_entropy']
    """
    sections = [reference] if isinstance(reference, AnnData) else list(reference)
    slices = {str(number): adata for number, adata in enumerate(sections)}
    if not slices:
        raise InputError("transfer_labels needs a reference slice to take labels from.")
    target = label_target(slices, key)
    blind = {name: unlabelled(adata) for name, adata in slices.items()}
    described = Remembered(LogPCA(n_components=50, whiten=False) if encoder is None else encoder)
    train = {name: np.ones(adata.n_obs, dtype=bool) for name, adata in slices.items()}
    probe = Probe(described, [head or _head()]).learn(blind, target, Fold("transfer", tuple(slices), train, {}, {}))
    given = unlabelled(query)
    chances = probe.predict(given)
    known = {name: target.known(name) for name in slices if target.known(name).any()}
    reached = [described.transform(blind[name])[cells] for name, cells in known.items()]
    where = [np.asarray(slices[name].obsm[_keys.SPATIAL], dtype=np.float64)[cells] for name, cells in known.items()]
    out = query.copy()
    codes = chances.argmax(axis=1)
    out.obs[_keys.PREDICTION.format(target=key)] = pd.Categorical.from_codes(
        codes.tolist(), categories=pd.Index(target.names)
    )
    out.obs[_keys.CONFIDENCE.format(target=key)] = chances.max(axis=1).astype(np.float32)
    out.obs[ENTROPY.format(target=key)] = _entropy(chances).astype(np.float32)
    out.obs[NOVELTY.format(target=key)] = _novelty(reached, where, described.transform(given)).astype(np.float32)
    return out


@dataclass(frozen=True)
class LabelTransfer:
    """How well labels are carried over to another slice, as `transfer_labels` does it.

    It differs from `Annotation` in that nothing is chosen: the head is fixed, and trained on
    training and validation cells together. It is meant for `LeaveOneSliceOut`.

    Parameters
    ----------
    key
        Column of ``obs``.
    head
        As in `transfer_labels`.
    name
        Name in tables.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.splits import LeaveOneSliceOut
    >>> from stgraph.tasks.transfer import LabelTransfer
    >>> slices = dict(zip("ab", stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2), strict=True))
    >>> result = LabelTransfer("domain").run(slices, LogPCA(n_components=5), split=LeaveOneSliceOut())
    >>> sorted(set(result.table["slice"]))
    ['a', 'b']
    """

    key: str
    head: BaseEstimator | None = None
    name: str = "label_transfer"

    def run(
        self,
        slices: Mapping[str, AnnData],
        model: SliceEncoder | Predictor,
        *,
        split: Split,
        shift: Shift | None = None,
        random_state: int = 0,
    ) -> TaskResult:
        """Learn from all but the judged slices; see `Annotation.run`.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        model
            What describes cells, or what learns labels itself; the latter with no head.
        split
            Whose labels are learnt from.
        shift
            What is done to a slice before its cells are judged.
        random_state
            Seed of the split, the shift and the intervals.

        Returns
        -------
        TaskResult
            As of `Annotation`.
        """
        heads = None if hasattr(model, "learn") and self.head is None else [self.head or _head()]
        task = Annotation(self.key, heads, self.name)
        return task.run(slices, model, split=split, shift=shift, random_state=random_state)


def _head() -> BaseEstimator:
    return make_pipeline(Narrow(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


def _entropy(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the entropy of even chances."""
    logs = np.log(np.where(chances > 0, chances, 1.0))
    return np.asarray(-(chances * logs).sum(axis=1) / np.log(chances.shape[1]))


def _novelty(
    reference: Sequence[NDArray[np.float32]], where: Sequence[NDArray[np.float64]], query: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Share of the reference cells that lie nearer to the rest of the reference than a query cell does.

    The rest of it: other sections, or other blocks of a single one. In the description of its surroundings a cell is
    nearest to the cells beside it, which says nothing about how near a cell of another section can come.
    """
    group = (
        np.concatenate([np.full(len(part), number) for number, part in enumerate(reference)])
        if len(reference) > 1
        else spatial_blocks(where[0], n_blocks=min(_BLOCKS, len(where[0])))
    )
    x = np.concatenate(list(reference))
    novelty = np.zeros(len(query))
    for number in np.unique(group):
        inside = group == number
        near = NearestNeighbors(n_neighbors=min(_NEAREST, int((~inside).sum()))).fit(x[~inside])
        own = np.sort(near.kneighbors(x[inside])[0].mean(axis=1))
        novelty += np.searchsorted(own, near.kneighbors(query)[0].mean(axis=1)) / len(x)
    return novelty
