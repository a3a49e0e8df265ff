"""Training on many slices together, and what it gives slices that were not among them; see the README."""

import argparse
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import yaml
from anndata import AnnData
from rich.console import Console
from scipy.sparse import csr_matrix

import stgraph
from stgraph._config import instantiate
from stgraph.cli.train_progress import stage_progress
from stgraph.errors import StgraphWarning
from stgraph.graph.builders import KNN
from stgraph.graph.virtual_cells import JointLeiden
from stgraph.io.slices import split_slices
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.partition.metis import Metis
from stgraph.preprocess.orthologs import Orthologs
from stgraph.tasks.adapt_cells import AdaptCells
from stgraph.tasks.pretrain import pretrain
from stgraph.tasks.rank_cells import RankCells
from stgraph.tasks.train_graphs import TrainGraphs
from stgraph.training.loop import Trainer

HERE = Path(__file__).parent
DATA = Path(os.environ.get("STGRAPH_DATA", HERE.parents[2] / "shared" / "data"))
NETWORK = {"out_channels": 64, "hidden_channels": 64, "num_layers": 2, "heads": 4, "ffn_channels": 128}
LENGTH = 256


def corpus() -> Iterator[AnnData]:
    """Slices of other tissues, animals and platforms than those that are judged: human and mouse, eight panels."""
    yield stgraph.read(
        DATA / "merfish_hypothalamus/merfish_hypothalamus_3slices.h5ad", slice_key="sample", um_per_unit=1
    )
    yield stgraph.read(DATA / "breast_xenium_visium/xenium_breast_roi.h5ad", um_per_unit=1)
    yield stgraph.read(DATA / "breast_xenium_visium/visium_breast_roi.h5ad")
    for name in ("A1", "B1", "C1", "C2", "C3", "C4", "D1"):
        yield stgraph.read(DATA / f"her2st/her2st_{name}.h5ad")
    yield xenium_mouse_brain(DATA / "raw_vendor/xenium_mousebrain_36k")
    yield cosmx_lung(DATA / "raw_vendor/cosmx_lung_p9s1_small")


def xenium_mouse_brain(folder: Path) -> AnnData:
    adata = sc.read_10x_h5(folder / "cell_feature_matrix.h5", gex_only=True)
    cells = pd.read_csv(folder / "cells.csv.gz").set_index("cell_id")
    cells.index = cells.index.astype(str)
    place = cells.loc[adata.obs_names, ["x_centroid", "y_centroid"]].to_numpy()
    human = Orthologs.read(next((DATA / "gene_vocab").glob("*mouseid2humanid*")))
    adata.var["human_ensembl_id"] = [
        to if to != gene else ""
        for gene, to in zip(adata.var["gene_ids"], human.translate(adata.var["gene_ids"]), strict=True)
    ]
    return _slice(adata, place, "xenium_mousebrain", 1.0)


def cosmx_lung(folder: Path) -> AnnData:
    keys = ["fov", "cell_ID"]
    counts = pd.read_csv(folder / "small_lung_p9s1_exprMat_file.csv.gz").set_index(keys)
    cells = pd.read_csv(folder / "small_lung_p9s1_metadata_file.csv").set_index(keys)
    both = counts.index.intersection(cells.index)
    genes = [gene for gene in counts.columns if not gene.startswith("NegPrb")]
    adata = AnnData(csr_matrix(counts.loc[both, genes].to_numpy(dtype=np.float32)), var=pd.DataFrame(index=genes))
    place = cells.loc[both, ["CenterX_global_px", "CenterY_global_px"]].to_numpy(dtype=np.float64)
    return _slice(adata, place, "cosmx_lung", 0.12028)  # microns per pixel of the instrument


def _slice(adata: AnnData, place: np.ndarray, name: str, um_per_unit: float) -> AnnData:
    adata.obs_names = [f"{name}_{i}" for i in range(adata.n_obs)]
    adata.var_names_make_unique()
    adata.obs["slice_id"] = name
    adata.obsm["spatial"] = place * um_per_unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", anndata.ImplicitModificationWarning)
        return adata[np.asarray(adata.X.sum(axis=1)).ravel() > 0].copy()


def train(out: Path, epochs: int, steps: int, console: Console) -> Path:
    """Cells of all slices, then their graphs; goes on where it was stopped."""
    slices = list(split_slices(list(corpus())).values())
    console.print(f"{len(slices)} slices, {sum(adata.n_obs for adata in slices):,} cells")
    adapt = Trainer(lr=3e-3, warmup_steps=100, grad_clip=1.0, checkpoint_every=100)
    spatial = Trainer(max_steps=steps, checkpoint_every=100)
    with stage_progress(console) as watch:
        result = pretrain(
            slices,
            out / "run",
            encoder=RankCells(vocabulary=str(DATA / "gene_vocab"), settings=NETWORK, max_length=LENGTH),
            builder=KNN(),
            virtual_cells=JointLeiden(),
            partitioner=Metis(),
            model=SE2Transformer,
            stages={
                "adapt": AdaptCells(trainer=adapt, epochs=epochs, max_tokens=8192, max_cells=128),
                "spatial": TrainGraphs(
                    objectives=[instantiate({"_target_": "stgraph.objectives.masked_cell.MaskedCell"})],
                    trainer=spatial,
                    epochs=None,
                ),
            },
            watch=watch,
        )
    result.pretrained.save(out / "model")
    pd.DataFrame(
        {"slice": adata.obs["slice_id"].iloc[0], "cells": adata.n_obs, "genes": adata.n_vars} for adata in slices
    ).to_csv(out / "corpus.csv", index=False)
    return out / "model"


def judge(out: Path, model: Path, workers: int, seeds: int) -> None:
    """Slices that were not trained on: as they are read by the model, and after it was trained on with them."""
    grid = yaml.safe_load((HERE / "grid.yaml").read_text())
    grid["data"] = str(DATA.resolve())
    written = out / "grid.yaml"
    written.write_text(yaml.safe_dump(grid).replace("MODEL", str(model.resolve())))
    command = [
        sys.executable,
        "-m",
        "stgraph.cli.main",
        "benchmark",
        "--data",
        str(written),
        "--out",
        str(out / "judged"),
    ]
    subprocess.run([*command, "--ours", "cells_of_many", "--workers", str(workers), "--seeds", str(seeds)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/many_slices"))
    parser.add_argument("--epochs", type=int, default=4, help="of all cells, in the first stage")
    parser.add_argument("--steps", type=int, default=600, help="of the second stage")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", StgraphWarning)  # units of some files are unknown, and genes without tokens
    console = Console(width=140)
    model = train(arguments.out, arguments.epochs, arguments.steps, console)
    judge(arguments.out, model, arguments.workers, arguments.seeds)


if __name__ == "__main__":
    main()
