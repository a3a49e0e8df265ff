"""The expression of genes that were not measured, as a task: some are held out, the others tell them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from stgraph import _keys
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.metrics.genes import gene_scores
from stgraph.preprocess.genes import shared_genes
from stgraph.preprocess.held_out_genes import detected_genes, held_out_values, without_genes
from stgraph.tasks.evaluate import evaluate
from stgraph.tasks.folds import Split
from stgraph.tasks.gene_judge import gene_judge
from stgraph.tasks.given import check_model, check_slices, check_split
from stgraph.tasks.predictor import Predictor
from stgraph.tasks.rescored import rescored
from stgraph.tasks.result import TaskResult
from stgraph.tasks.shifts import Shift
from stgraph.tasks.target import Target

GENES = "genes"
"""Name of the target: predictions are in ``obsm["stgraph_predicted_genes"]``, and their genes in ``uns`` likewise."""

MIN_SEEN = 10
"""Fewest genes that are left to see."""


@dataclass
class ImputationResult(TaskResult):
    """A `TaskResult` with the scores of each gene.

    Attributes
    ----------
    by_gene
        ``slice, gene, round, detected, pearson, spearman, rmse``, a row for each gene and slice;
        ``detected`` is the share of judged cells with a count.
    """

    by_gene: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class Imputation:
    """Tell genes of a cell from its other genes and its surroundings.

    In each round, some genes are taken out of all slices, and the model never sees them: they
    are in no depth that counts are divided by, and no component. A head learns their values
    from the training cells. Rounds hold out different genes.

    Values are log counts at one depth, counted over the genes that are seen
    (`stgraph.preprocess.held_out_genes.held_out_values`).

    Parameters
    ----------
    share
        Of the genes that can be held out, so many are in each round.
    n_rounds
        Rounds; ``share * n_rounds`` is 1 at most.
    max_genes
        Genes of a round at most; a note says where fewer were taken for it.
    genes
        The genes to hold out, in one round; None to draw them.
    min_detected
        A gene is drawn only if it has a count in this share of the cells of each slice.
    heads
        As in `stgraph.tasks.probe.Probe`; None for ridge regressions.
    name
        Name in tables.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.imputation import Imputation
    >>> from stgraph.tasks.splits import SpatialBlocks
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]}
    >>> result = Imputation(n_rounds=1, max_genes=5).run(slices, LogPCA(n_components=5), split=SpatialBlocks())
    >>> result.table["metric"].tolist(), len(result.by_gene)
    (['gene_pearson', 'gene_pearson_median', 'gene_spearman', 'gene_spearman_median'], 5)
    """

    share: float = 0.2
    n_rounds: int = 2
    max_genes: int = 100
    genes: Sequence[str] | None = None
    min_detected: float = 0.02
    heads: Sequence[BaseEstimator] | None = None
    name: str = "imputation"

    def __post_init__(self) -> None:
        check_whole(self, "n_rounds")
        check_whole(self, "max_genes")
        for name in ("share", "min_detected"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise InputError(f"Imputation needs a {name} between 0 and 1, not {value!r}.")
        if self.share == 0 or self.share * self.n_rounds > 1 + 1e-9:
            raise InputError(
                f"Imputation cannot hold out {self.share:g} of the genes in {self.n_rounds} rounds without holding out "
                "one twice, or none: share * n_rounds must be above 0, and 1 at most."
            )
        if self.genes is not None:
            object.__setattr__(self, "genes", tuple(self.genes))
            if not self.genes or len(set(self.genes)) < len(self.genes):
                raise InputError("Imputation needs genes to hold out, each named once.")

    def rounds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> tuple[list[list[str]], list[str]]:
        """Genes held out in each round.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        random_state
            Seed of the draw.

        Returns
        -------
        rounds : list of list of str
            No gene is in two.
        notes : list of str
            What was left out.

        Raises
        ------
        InputError
            If a given gene is not in all slices, or too few genes are left.
        """
        shared = shared_genes(list(slices.values()), min_genes=MIN_SEEN + 1)
        notes: list[str] = []
        if self.genes is not None:
            absent = [gene for gene in self.genes if gene not in set(shared)]
            if absent:
                raise InputError(f"{len(absent)} genes to hold out are not in every slice: {', '.join(absent[:5])}.")
            dealt = [list(self.genes)]
        else:
            can = detected_genes(list(slices.values()), shared, least_share=self.min_detected)
            size = int(self.share * len(can))
            if size > self.max_genes:
                notes.append(f"{self.max_genes} genes are held out in a round, not {size}: max_genes says so")
            size = min(size, self.max_genes)
            if size == 0:
                raise InputError(
                    f"No gene can be held out: {len(can)} of {len(shared)} have a count in {self.min_detected:g} of "
                    f"the cells of each slice, and {self.share:g} of them is less than one."
                )
            drawn = np.random.default_rng(random_state).permutation(len(can))
            dealt = [sorted(can[i] for i in drawn[n * size : (n + 1) * size]) for n in range(self.n_rounds)]
        if len(shared) - max(map(len, dealt)) < MIN_SEEN:
            raise InputError(
                f"Of {len(shared)} genes that all slices have, holding out {max(map(len, dealt))} leaves fewer than "
                f"{MIN_SEEN} to see: hold out fewer."
            )
        return dealt, notes

    def run(
        self,
        slices: Mapping[str, AnnData],
        model: SliceEncoder | Predictor,
        *,
        split: Split,
        shift: Shift | None = None,
        random_state: int = 0,
    ) -> ImputationResult:
        """Learn and judge in each fold of a split, and each round of genes.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        model
            What describes cells, or what learns values itself.
        split
            Of the cells. Where it leaks, training cells of the same neighbourhood tell the noise
            of a judged one.
        shift
            What is done to a slice, of the genes that are seen, before its cells are judged.
        random_state
            Seed of the genes, the split, the shift and the bootstrap.

        Returns
        -------
        ImputationResult
            For each slice ``gene_pearson`` and ``gene_spearman``, means over genes of
            correlations over cells, and their medians; the scores of each gene in ``by_gene``;
            predictions in ``obsm["stgraph_predicted_genes"]``.

        Raises
        ------
        InputError
            As in `rounds` and `stgraph.tasks.evaluate.evaluate`.
        """
        check_slices(slices)
        check_split(split)
        check_model(model)
        dealt, notes = self.rounds(slices, random_state=random_state)
        shared = shared_genes(list(slices.values()), min_genes=1)
        said: dict[str, list[NDArray[np.float32]]] = {}
        truth: dict[str, list[NDArray[np.float64]]] = {name: [] for name in slices}
        for number, held in enumerate(dealt):
            seen = {name: without_genes(adata, held) for name, adata in slices.items()}
            values = held_out_values(slices, held, [gene for gene in shared if gene not in set(held)])
            target = Target(GENES, "values", tuple(held), values)
            result = evaluate(
                self.name, target, seen, model, split, heads=self.heads, shift=shift, n_draws=1,
                random_state=random_state,
            )  # fmt: skip
            notes += [f"round {number}: {note}" for note in result.notes]
            for name, adata in result.adatas.items():
                said.setdefault(name, []).append(adata.obsm[_keys.PREDICTION.format(target=GENES)])
                truth[name].append(values[name])
        names = [gene for held in dealt for gene in held]
        whole = {name: np.concatenate(truth[name], axis=1) for name in said}
        slot = _keys.PREDICTION.format(target=GENES)
        adatas = {name: slices[name].copy() for name in said}
        for name, adata in adatas.items():
            adata.obsm[slot], adata.uns[slot] = np.concatenate(said[name], axis=1), names
        together = TaskResult(result.table, adatas, notes)
        table = rescored(together, GENES, whole, gene_judge, random_state=random_state)
        of_round = [number for number, held in enumerate(dealt) for _ in held]
        by_gene = [_by_gene(name, adatas[name].obsm[slot], whole[name], names, of_round) for name in said]
        return ImputationResult(table, adatas, notes, pd.concat(by_gene, ignore_index=True))


def _by_gene(
    name: str, said: NDArray[np.float32], truth: NDArray[np.float64], genes: list[str], of_round: list[int]
) -> pd.DataFrame:
    judged = ~np.isnan(said).any(axis=1)
    return pd.DataFrame(
        {
            "slice": name,
            "gene": genes,
            "round": of_round,
            "detected": (truth[judged] > 0).mean(axis=0),
            **gene_scores(truth[judged], said[judged]),
        }
    )
