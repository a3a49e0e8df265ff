"""Genes that a slice lacks, learnt from a reference that has them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.base import BaseEstimator

from stgraph import _keys
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import InputError
from stgraph.io.slices import split_slices
from stgraph.metrics.genes import gene_scores
from stgraph.preprocess.encoder import LogPCA
from stgraph.preprocess.genes import shared_genes
from stgraph.preprocess.held_out_genes import held_out_values, without_genes
from stgraph.tasks.evaluate import evaluate
from stgraph.tasks.folds import Fold, Split
from stgraph.tasks.imputation import MIN_SEEN
from stgraph.tasks.probe import Probe
from stgraph.tasks.remembered import Remembered
from stgraph.tasks.splits import LeaveOneSliceOut, SpatialBlocks
from stgraph.tasks.target import Target
from stgraph.tasks.unlabelled import unlabelled

IMPUTED = "imputed"


def impute(
    adata: AnnData,
    reference: AnnData | Sequence[AnnData],
    *,
    genes: Sequence[str] | None = None,
    encoder: SliceEncoder | None = None,
    heads: Sequence[BaseEstimator] | None = None,
    split: Split | None = None,
    random_state: int = 0,
) -> AnnData:
    """Predict genes that a slice lacks, and say how well each is likely to be told.

    Cells are described by the genes that the slice and the reference share; a head learns the
    others from the reference.

    Parameters
    ----------
    adata
        One canonical slice; it is not changed.
    reference
        One slice or several that have the genes.
    genes
        What to predict; None for all genes of the reference that the slice lacks.
    encoder
        What describes cells, fitted on the reference; None for 50 components of log counts.
    heads
        As in `stgraph.tasks.probe.Probe`; None for ridge regressions.
    split
        Of the reference, to measure accuracy by; None to leave each of its slices out in turn,
        or for blocks of the one.
    random_state
        Seed of the split and of the default encoder.

    Returns
    -------
    AnnData
        A copy with a table of log counts, at the median depth of the reference over the shared
        genes, in ``obsm["stgraph_imputed"]`` (columns are genes), and in
        ``uns["stgraph_imputed"]`` the ``pearson``, ``spearman`` and ``rmse`` of each gene in
        cells of the reference that were not learnt from, mean over its slices. A slice from
        another platform or donor is told less well than that.

    Raises
    ------
    InputError
        If no gene is left to predict, the reference lacks one, the slice has one of them, or
        too few genes are shared.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.impute import impute
    >>> tissue, reference = stgraph.synthetic_tissue(n_cells=300, n_genes=60, n_slices=2)
    >>> told = impute(tissue[:, 5:].copy(), reference)
    >>> told.obsm["stgraph_imputed"].shape, list(told.uns["stgraph_imputed"].columns)
    ((300, 5), ['pearson', 'spearman', 'rmse'])
    """
    given = [reference] if isinstance(reference, AnnData) else list(reference)
    references = split_slices(given)
    shared = shared_genes([adata, *references.values()], min_genes=MIN_SEEN)
    wanted = _wanted(adata, references, genes)
    seen = {name: _panel(other, shared) for name, other in references.items()}
    values = held_out_values(references, wanted, shared)
    target = Target(IMPUTED, "values", tuple(wanted), values)
    encoder = LogPCA(n_components=50, whiten=False, random_state=random_state) if encoder is None else encoder
    if split is None:
        split = LeaveOneSliceOut() if len(references) > 1 else SpatialBlocks()
    probe = Probe(Remembered(encoder), heads)
    judged = evaluate("imputation", target, seen, probe, split, n_draws=1, random_state=random_state)
    # The head is chosen with cells it did not learn from, and then learns from all.
    first = split.folds(seen, random_state=random_state)[0]
    blind = {name: unlabelled(part) for name, part in seen.items()}
    learnt = probe.learn(blind, target, first.shown())
    everything = {name: np.ones(part.n_obs, dtype=bool) for name, part in blind.items()}
    final = learnt.relearn(blind, target, Fold("all", tuple(blind), everything, {}, {}))
    out = adata.copy()
    slot = _keys.IMPUTED
    told = final.predict(unlabelled(_panel(adata, shared))).astype(np.float32)
    out.obsm[slot] = pd.DataFrame(told, index=out.obs_names, columns=wanted)
    out.uns[slot] = _accuracy(judged.adatas, _keys.PREDICTION.format(target=IMPUTED), target)
    return out


def _panel(adata: AnnData, genes: Sequence[str]) -> AnnData:
    others = adata.var_names.difference(pd.Index(genes))
    return without_genes(adata, list(others))


def _wanted(adata: AnnData, references: dict[str, AnnData], genes: Sequence[str] | None) -> list[str]:
    there = set(adata.var_names)
    known = shared_genes(list(references.values()), min_genes=1)
    if genes is None:
        wanted = [gene for gene in known if gene not in there]
        if not wanted:
            raise InputError("The slice has all genes of the reference, so there is nothing to impute.")
        return wanted
    wanted = list(genes)
    measured = [gene for gene in wanted if gene in there]
    if measured or not wanted:
        what = f"the slice has {', '.join(measured[:5])} already" if measured else "no gene is named"
        raise InputError(f"There is nothing to impute: {what}.")
    unknown = [gene for gene in wanted if gene not in set(known)]
    if unknown:
        raise InputError(f"{len(unknown)} genes are not in every slice of the reference: {', '.join(unknown[:5])}.")
    return wanted


def _accuracy(adatas: dict[str, AnnData], slot: str, target: Target) -> pd.DataFrame:
    """Scores of each gene, mean over the slices of the reference."""
    tables = []
    for name, adata in adatas.items():
        said = adata.obsm[slot]
        known = ~np.isnan(said).any(axis=1)
        scores = gene_scores(target.of[name][known], said[known])
        tables.append(pd.DataFrame(scores, index=pd.Index(target.names, name="gene")))
    return pd.concat(tables).groupby(level=0, sort=False).mean()
