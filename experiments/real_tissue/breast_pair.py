"""One breast tumour by Xenium and by Visium: held-out genes and the composition of spots, within and across platforms.

    python experiments/real_tissue/breast_pair.py [--csv FILE]

The two sections lie in one frame, so that the Xenium cells within 27.5 microns of a Visium spot stand for it. They are
a weak stand-in: an adjacent section, a share of its cells (5 in a spot), and a registration that may be some tens of
microns off. The row "(Xenium measured there)" says how much they have in common with the Visium counts.
Types are not annotated; they are clusters of the cells' own expression. Whatever is judged in a block of the tissue
was learnt in other blocks, for the other platform too.
"""

import argparse
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from rich.console import Console
from sklearn.neighbors import KNeighborsRegressor

import stgraph
from stgraph.baselines import Banksy, Constant, NeighborMean
from stgraph.errors import StgraphWarning
from stgraph.graph.expression_neighbors import expression_neighbors
from stgraph.graph.leiden import leiden
from stgraph.graph.spacing import median_spacing
from stgraph.metrics.genes import gene_scores
from stgraph.metrics.proportions import proportion_scores
from stgraph.preprocess.encoder import LogPCA
from stgraph.preprocess.held_out_genes import held_out_values, without_genes
from stgraph.tasks.deconvolution import Deconvolution, FromCells
from stgraph.tasks.evaluate import evaluate
from stgraph.tasks.folds import Fold
from stgraph.tasks.imputation import Imputation
from stgraph.tasks.probe import Probe
from stgraph.tasks.pseudo_spots import GatheredSpots, gather_spots
from stgraph.tasks.rescored import by_rows, rescored
from stgraph.tasks.signature_nnls import SignatureNNLS
from stgraph.tasks.signature_poisson import SignaturePoisson
from stgraph.tasks.simplex import onto_simplex, proportion_heads
from stgraph.tasks.smoothed_poisson import SmoothedPoisson
from stgraph.tasks.splits import SpatialBlocks
from stgraph.tasks.spot_layouts import SpotsAt
from stgraph.tasks.target import Target, label_target

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("STGRAPH_DATA", HERE.parents[2] / "shared" / "data")) / "breast_xenium_visium"
DIAMETER, SPACING = 55.0, 100.0
XENIUM, VISIUM = "xenium", "visium"
TYPES = "derived_type"
RESOLUTION = 1.0
PCA = LogPCA(n_components=50, whiten=False)
SIGNATURES: dict[str, Any] = {
    "NNLS": SignatureNNLS(),
    "Poisson": SignaturePoisson(),
    "Poisson, platform effect": SignaturePoisson(platform_rounds=2),
    "smoothed Poisson": SmoothedPoisson(),
    "smoothed Poisson, platform effect": SmoothedPoisson(method=SignaturePoisson(platform_rounds=2)),
}


def described(heads: list[Any] | None = None) -> dict[str, Any]:
    """Models that describe, with the head that each is named after."""
    nearest = [KNeighborsRegressor(k, weights="distance") for k in (60, 30, 10)]
    return {
        "mean": Probe(Constant(), heads),
        "PCA kNN": Probe(PCA, nearest),
        "PCA ridge": Probe(PCA, heads),
        "neighbour means ridge": Probe(NeighborMean(PCA, 7), heads),
        "own and context ridge": Probe(Banksy(lambda_=0.2, n_neighbors=15, n_components=50), heads),
    }


@dataclass(frozen=True)
class SamePlaces:
    """Learn from Xenium spots of some blocks, judge the Visium spots of another; rows are the same places."""

    blocks: SpatialBlocks
    name: str = "other platform, other blocks"
    leaks: bool = False

    def folds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> list[Fold]:
        """As `SpatialBlocks` of the Xenium spots."""
        within = self.blocks.folds({XENIUM: slices[XENIUM]}, random_state=random_state)
        return [Fold(f.name, (XENIUM,), f.train, f.validation, {VISIUM: f.test[XENIUM]}) for f in within]


def read_pair() -> tuple[AnnData, AnnData]:
    """Cells and spots in microns: Visium spots are 100 apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StgraphWarning)
        unit = SPACING / median_spacing(stgraph.read(DATA / "visium_breast_roi.h5ad").obsm["spatial"])
    return tuple(stgraph.read(DATA / f"{name}_breast_roi.h5ad", um_per_unit=unit) for name in (XENIUM, VISIUM))


def derive_types(cells: AnnData) -> None:
    """Clusters of own expression, without a look at neighbours or at Visium."""
    x = LogPCA(n_components=30, whiten=False).fit([cells]).transform(cells)
    near = expression_neighbors(x, 15, random_state=0)
    rows = np.repeat(np.arange(len(x)), near.shape[1])
    graph = sp.csr_matrix((np.ones(near.size), (rows, near.ravel())), shape=(len(x), len(x)))
    found = leiden(graph + graph.T, resolution=RESOLUTION, random_state=0)
    cells.obs[TYPES] = [f"cluster {number:02d}" for number in found]


def rows_of(table: pd.DataFrame, question: str, method: str) -> pd.DataFrame:
    """Rows of a table, with what was asked and who answered."""
    return table.assign(question=question, method=method)[
        ["question", "method", "metric", "value", "low", "high", "n_cells"]
    ]


def imputation(cells: AnnData, spots: dict[str, AnnData]) -> list[pd.DataFrame]:
    """Held-out genes of the Xenium panel: in cells, by blocks; and in Visium spots, learnt from Xenium spots."""
    found = []
    task, blocks = Imputation(max_genes=60), SpatialBlocks()
    for method, model in described().items():
        result = task.run({XENIUM: cells}, model, split=blocks)
        found.append(rows_of(result.table, "Xenium genes in cells, other blocks", method))
    across = SamePlaces(SpatialBlocks(buffer=2.0))
    for method, model in described().items():
        result = task.run(spots, model, split=across)
        found.append(rows_of(result.table, "Xenium to Visium genes in spots, other blocks", method))
    # What the other section measured at the same place, gene by gene, with the noise of its few cells.
    held = [gene for genes in task.rounds(spots)[0] for gene in genes]
    seen = [gene for gene in spots[XENIUM].var_names if gene not in set(held)]
    values = held_out_values(spots, held, seen)
    scores = {m: float(np.nanmean(s)) for m, s in gene_scores(values[VISIUM], values[XENIUM]).items()}
    rows = [
        {"metric": f"gene_{m}", "value": scores[m], "n_cells": spots[VISIUM].n_obs} for m in ("pearson", "spearman")
    ]
    table = pd.DataFrame(rows).assign(low=np.nan, high=np.nan)
    return [*found, rows_of(table, "Xenium to Visium genes in spots, other blocks", "(Xenium measured there)")]


def deconvolution(cells: AnnData, made: GatheredSpots, spots: dict[str, AnnData]) -> list[pd.DataFrame]:
    """Clusters in pseudo-spots of Xenium, and in the Visium spots at the same places."""
    found = []
    models = {**described(proportion_heads()), **SIGNATURES}
    places = SpotsAt(made.spots.obsm["spatial"], DIAMETER)
    for method, model in models.items():
        result = Deconvolution(TYPES, layout=places).run({XENIUM: cells}, model, split=SpatialBlocks(buffer=2.0))
        found.append(rows_of(result.table, "clusters in Xenium pseudo-spots, other blocks", method))
    types = label_target({XENIUM: cells}, TYPES)
    truth = np.asarray(made.spots.obsm["proportions"])
    target = Target("proportions", "values", types.names, {XENIUM: truth, VISIUM: truth})
    for method, model in models.items():
        if method in SIGNATURES:
            model = FromCells(model, {XENIUM: cells}, {XENIUM: types.of[XENIUM]}, {XENIUM: made})  # noqa: PLW2901
        result = evaluate("deconvolution", target, spots, model, SamePlaces(SpatialBlocks(buffer=2.0)), n_draws=1)
        judge = by_rows(lambda true, said: proportion_scores(true, onto_simplex(said)))
        table = rescored(result, target.name, target.of, judge)
        found.append(rows_of(table, "clusters in Visium spots, other blocks", method))
    return found


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, help="where the table goes, beside the screen")
    csv = parser.parse_args().csv
    console = Console(width=160)
    cells, visium = read_pair()
    derive_types(cells)
    types = label_target({XENIUM: cells}, TYPES)
    # The names of both slices are those of their role from here on.
    layout = SpotsAt(visium.obsm["spatial"], DIAMETER)
    _, spot_of_cell = layout(cells.obsm["spatial"])
    covered = np.unique(spot_of_cell[spot_of_cell >= 0])
    made = gather_spots(cells, types.of[XENIUM], types.names, layout=layout)
    # Cells count as in the pseudo-spots, so that rows are the same places.
    panel = visium[covered][:, visium.var_names.isin(cells.var_names)].copy()
    both = made.spots[:, made.spots.var_names.isin(panel.var_names)].copy()
    spots = {XENIUM: both, VISIUM: without_genes(panel, [])}
    console.print(
        f"{cells.n_obs} cells in {len(types.names)} derived clusters, {made.spots.n_obs} of {visium.n_obs} spots with "
        f"{int(made.spots.obs['n_cells'].median())} cells (median), {panel.n_vars} genes in both"
    )
    table = pd.concat([*imputation(cells, spots), *deconvolution(cells, made, spots)], ignore_index=True)
    for question, rows in table.groupby("question", sort=False):
        wide = rows.pivot_table(index="method", columns="metric", values="value", sort=False).round(3)
        console.print(f"\n{question}", wide.to_string(), sep="\n")
    if csv is not None:
        table.to_csv(csv, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
