"""Domains of stgraph against annotated ones, on real tissue; see the README beside this file."""

import argparse
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from rich.console import Console

import stgraph
from stgraph.errors import StgraphWarning
from stgraph.tasks.scoring import score_domains

HERE = Path(__file__).parent
DATA = Path(os.environ.get("STGRAPH_DATA", HERE.parents[2] / "shared" / "data"))

OSMFISH = DATA / "osmfish/osmfish_ss_cortex_all6471.h5ad"
STUDIES: dict[str, Callable[[], list[AnnData]]] = {
    "DLPFC": lambda: [stgraph.read(DATA / f"dlpfc/dlpfc_{name}.h5ad") for name in (151673, 151675)],
    "osmFISH": lambda: [stgraph.read(OSMFISH, keep="valid == 1 and not is_duplicate")],
    "osmFISH, all cells": lambda: [stgraph.read(OSMFISH)],
    "STARmap": lambda: [stgraph.read(DATA / "starmap_mvc/starmap_mvc_BY3_1k.h5ad")],
    "HER2+ breast": lambda: [stgraph.read(DATA / f"her2st/her2st_{name}.h5ad") for name in ("A1", "B1", "C1", "D1")],
}


def draw(table: pd.DataFrame) -> Figure:
    """Every seed of every method, slice by slice."""
    slices = list((table["study"] + " / " + table["slice"]).drop_duplicates())
    figure = Figure(figsize=(8, 0.42 * len(slices) + 1))
    axes = figure.subplots()
    styles = {"stgraph": ("#0072b2", "o", 0.0), "neighbour PCA": ("#d55e00", "s", 0.22), "PCA": ("#999999", "^", -0.22)}
    for method, (color, marker, shift) in styles.items():
        rows = table[table["method"] == method]
        height = [slices.index(name) + shift for name in rows["study"] + " / " + rows["slice"]]
        axes.plot(rows["ari"], height, marker, color=color, alpha=0.6, ms=4, label=method)
    axes.set_yticks(range(len(slices)), slices)
    axes.invert_yaxis()
    axes.set_xlabel("adjusted Rand index against the annotation, each mark one seed")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--studies", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--settings", type=json.loads, default={}, help="arguments of stgraph.fit, as JSON")
    parser.add_argument("--out", type=Path, default=HERE / "scores.csv")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", StgraphWarning)  # units of four of these files are unknown, as the README says
    console = Console(width=140)
    tables = []
    for study in arguments.studies:
        slices = STUDIES[study]()
        for seed in range(arguments.seeds):
            result = stgraph.fit(slices, random_state=seed, progress=False, **arguments.settings)
            scores = score_domains(result.adatas, "domain", result.pretrained.domains, random_state=seed)
            tables.append(scores.assign(study=study, seed=seed, train_seconds=round(result.timings["train"], 1)))
            means = scores.groupby("method", sort=False)["ari"].mean().round(3).to_dict()
            console.print(f"{study}, seed {seed}: {means}", highlight=False)
    table = pd.concat(tables, ignore_index=True)
    table.to_csv(arguments.out, index=False, float_format="%.4f")
    table = table[table["method"] != "stgraph as written"]
    draw(table).savefig(arguments.out.with_suffix(".svg"), bbox_inches="tight")
    by_slice = table.groupby(["study", "slice", "method"], sort=False)["ari"].agg(["mean", "std"]).unstack("method")
    console.print(by_slice.round(3).to_string(), highlight=False)


if __name__ == "__main__":
    main()
