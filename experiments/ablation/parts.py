"""What each part of SToFM gave, from the table of the ablation: differences in pairs, with intervals over slices."""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from stgraph.benchmark.summary import contests
from stgraph.metrics.ranks import paired_difference

HERE = Path(__file__).parent

PARTS = {
    "domain adaptation of the cell encoder": ("cells_adapted", "cells_drawn"),
    "domain adaptation, read by the SE(2) transformer": ("stofm_on_cells_adapted", "stofm_on_cells_drawn"),
    "SE(2) transformer on adapted cells": ("stofm_on_cells_adapted", "cells_adapted"),
    "principal components in place of adapted cells": ("full", "stofm_on_cells_adapted"),
    "virtual cells": ("full", "no_virtual_cells"),
    "distance bias": ("full", "no_distance_bias"),
    "masked cells": ("full", "no_masked_cells"),
    "distance recovery, weak, graph as it is": ("full", "no_distance_recovery"),
    "distance recovery, strong, graph built anew": ("strong_distance_recovery", "no_distance_recovery"),
    "the same, weight learnt": ("learned_balance", "no_distance_recovery"),
    "edges in place of all pairs (SToFM's network)": ("stofm_edges", "stofm_all_pairs"),
    "nearest neighbours in place of a radius": ("full", "radius"),
    "METIS in place of tiles": ("full", "tiles"),
    "one layer in place of two": ("full", "two_layers"),
    "training at all": ("full", "stgraph_untrained"),
    "the network in place of means over neighbours": ("full", "neighbor_pca"),
}
"""Part: the model with it, and the model without."""

TASKS = {"region": "regions (macro F1)", "clustering": "domains (ARI)"}


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """With less without, for each part and task; a slice counts once, however many seeds and splits it has."""
    rows = contests(table)
    rows = rows.assign(place=rows["study"] + "/" + rows["slice"], split=rows["split"].fillna(""))
    wide = rows.pivot_table(index=["task", "place", "split", "seed"], columns="model", values="score", aggfunc="mean")
    out = []
    for part, (there, absent) in PARTS.items():
        for task in TASKS:
            if task not in wide.index.get_level_values("task") or not {there, absent} <= set(wide):
                continue
            pairs = wide.loc[task, [there, absent]].dropna()
            if pairs.empty:
                continue
            places = pairs.index.get_level_values("place").to_numpy()
            mean, low, high = paired_difference(pairs[there], pairs[absent], places)
            means = pairs.groupby("place").mean().mean()
            gain = (pairs[there] - pairs[absent]).groupby(level="place").mean()
            out.append((part, task, means[there], means[absent], mean, low, high, int((gain > 0).sum()), len(gain)))
    columns = ["part", "task", "with", "without", "difference", "low", "high", "better_slices", "n_slices"]
    return pd.DataFrame(out, columns=columns)


def markdown(found: pd.DataFrame) -> str:
    """One line for a part, a column for a task."""
    lines = ["| part | " + " | ".join(TASKS.values()) + " |", "|---|" + "---|" * len(TASKS)]
    for part, rows in found.groupby("part", sort=False):
        cells = []
        for task in TASKS:
            of_task = rows[rows["task"] == task]
            cells.append("" if of_task.empty else _cell(of_task.iloc[0]))
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: pd.Series) -> str:
    return (
        f"{row['without']:.3f} to {row['with']:.3f}: **{row['difference']:+.3f}** "
        f"({row['low']:+.3f} to {row['high']:+.3f}), "
        f"better on {row['better_slices']} of {row['n_slices']} slices"
    )


def draw(found: pd.DataFrame) -> Figure:
    """Differences with their intervals."""
    parts = list(dict.fromkeys(found["part"]))
    figure = Figure(figsize=(9, 0.4 * len(parts) + 1.2))
    axes = figure.subplots(1, len(TASKS), sharey=True)
    for ax, (task, title) in zip(axes, TASKS.items(), strict=True):
        rows = found[found["task"] == task]
        height = [parts.index(part) for part in rows["part"]]
        clear = (rows["low"] > 0) | (rows["high"] < 0)
        ax.axvline(0, color="#888888", lw=0.8)
        ax.hlines(height, rows["low"], rows["high"], color="#0072b2", alpha=0.5, lw=2)
        ax.scatter(
            rows["difference"],
            height,
            c=["#0072b2" if sure else "white" for sure in clear],
            edgecolors="#0072b2",
            zorder=3,
        )
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("with the part, less without")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(parts)), parts, fontsize=8)
    axes[0].invert_yaxis()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path("build/ablation"), help="folder of the benchmark")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    found = differences(pd.read_parquet(arguments.run / "table.parquet"))
    found.to_csv(arguments.out / "parts.csv", index=False, float_format="%.4g")
    (arguments.out / "parts.md").write_text(markdown(found), encoding="utf-8")
    draw(found).savefig(arguments.out / "parts.svg", bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
