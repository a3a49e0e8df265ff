"""Labels of cells, learnt from annotated ones: regions of tissue, cell types, niches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anndata import AnnData
from sklearn.base import BaseEstimator

from stgraph.baselines.base import SliceEncoder
from stgraph.tasks.evaluate import evaluate
from stgraph.tasks.folds import Split
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.result import TaskResult
from stgraph.tasks.shifts import Shift
from stgraph.tasks.target import label_target


@dataclass(frozen=True)
class Annotation:
    """How well the labels of a column are learnt: a region of tissue, a cell type, a niche.

    Parameters
    ----------
    key
        Column of ``obs``; cells without a label count nowhere.
    heads
        Estimators of scikit-learn to choose from, as in `stgraph.tasks.probe.Probe`; None
        for linear ones. A perceptron is in `stgraph.tasks.heads.mlp_classifiers`.
    name
        Name in tables.
    n_draws
        Draws of the intervals.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.annotation import Annotation
    >>> from stgraph.tasks.splits import RandomCells
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]}
    >>> result = Annotation("cell_type").run(slices, LogPCA(n_components=5), split=RandomCells())
    >>> result.adatas["a"].obs["stgraph_predicted_cell_type"].notna().sum()
    np.int64(60)
    """

    key: str
    heads: Sequence[BaseEstimator] | None = None
    name: str = "annotation"
    n_draws: int = 200

    def run(
        self,
        slices: Mapping[str, AnnData],
        model: SliceEncoder | Predictor,
        *,
        split: Split,
        shift: Shift | None = None,
        random_state: int = 0,
    ) -> TaskResult:
        """Learn, choose and judge in each fold; see `stgraph.tasks.evaluate.evaluate`.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        model
            What describes cells, or what learns labels itself.
        split
            Whose labels are learnt from.
        shift
            What is done to a slice before its cells are judged.
        random_state
            Seed of the split, the shift and the intervals.

        Returns
        -------
        TaskResult
            Accuracy, macro and weighted F1, Matthews correlation and area under the ROC
            curve of each slice; predictions in ``obs["stgraph_predicted_KEY"]``.

        Raises
        ------
        InputError
            If no slice has the column, or it has fewer than two classes.
        """
        target = label_target(slices, self.key)
        return evaluate(
            self.name,
            target,
            slices,
            model,
            split,
            heads=self.heads,
            shift=shift,
            n_draws=self.n_draws,
            random_state=random_state,
        )
