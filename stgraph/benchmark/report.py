"""The tables and pictures of a benchmark, from its one table."""

from pathlib import Path

import pandas as pd

from stgraph._files import atomic_path
from stgraph.benchmark.choices import choices
from stgraph.benchmark.run import PREDICTIONS
from stgraph.benchmark.summary import LOWER_IS_BETTER, against_best, contest_names, contests, means, ranks
from stgraph.errors import InputError
from stgraph.metrics.ranks import nemenyi_distance
from stgraph.plot.benchmark import critical_difference_plot, prediction_maps, score_heatmap


def write_report(table: pd.DataFrame, out: Path, *, ours: str | None = None) -> list[Path]:
    """Write means, differences and pictures.

    Parameters
    ----------
    table
        From `stgraph.benchmark.run.run_benchmark`.
    out
        Its folder: where the predictions for maps stand, and where files go.
    ours
        The model that is compared with the best of the simple methods (those of
        ``configs/baseline``) in each contest; None for none.

    Returns
    -------
    list of Path
        ``means.csv``, ``means.md``, ``heatmap.svg`` and ``heatmap.png``; if there are enough models and studies
        ``critical_difference.svg``; with ``ours`` ``differences.csv`` and a map
        of truth, prediction and error for each slice under the strictest split.

    Raises
    ------
    InputError
        If the table is empty, or lacks the model.
    """
    if table.empty:
        raise InputError("The benchmark gave no numbers, so there is nothing to report: see failures.csv.")
    rows = contests(table)
    mean = means(rows)
    written = [_csv(mean, out / "means.csv")]
    wide = wide_means(mean)
    lower = [label for label, metric in zip(wide.index, wide["metric"], strict=True) if metric in LOWER_IS_BETTER]
    with atomic_path(out / "means.md") as tmp:
        tmp.write_text(markdown(wide), encoding="utf-8")
    written.append(out / "means.md")
    figure = score_heatmap(wide.drop(columns="metric"), lower_is_better=lower)
    for suffix in ("svg", "png"):
        with atomic_path(out / f"heatmap.{suffix}") as tmp:
            figure.savefig(tmp, dpi=150)
        written.append(out / f"heatmap.{suffix}")
    models = list(dict.fromkeys(rows["model"]))
    if len(models) > 1:
        try:
            mean_rank, n_studies = ranks(rows)
        except InputError:  # no slice with all models
            mean_rank, n_studies = pd.Series(dtype=float), 0
        if n_studies > 1:
            diagram = critical_difference_plot(dict(mean_rank), nemenyi_distance(len(models), n_studies))
            with atomic_path(out / "critical_difference.svg") as tmp:
                diagram.savefig(tmp)
            written.append(out / "critical_difference.svg")
    if ours is not None:
        simple = [name for name in models if name in simple_models() and name != ours]
        if simple:
            written.append(_csv(against_best(rows, ours, simple), out / "differences.csv"))
        written += _maps(table, out, ours)
    return written


def simple_models() -> frozenset[str]:
    """Names of the simple methods: the files of ``configs/baseline`` and ``configs/deconvolver``."""
    return frozenset(name for name, path in choices("model").items() if path.parent.name in ("baseline", "deconvolver"))


def wide_means(mean: pd.DataFrame) -> pd.DataFrame:
    """One row for each study and contest, one column for each model, and the metric.

    Parameters
    ----------
    mean
        From `stgraph.benchmark.summary.means`.

    Returns
    -------
    DataFrame
        Rows are labelled as a reader wants them.
    """
    text = mean.assign(row=mean["study"] + ": " + contest_names(mean))
    models = list(dict.fromkeys(text["model"]))
    wide = text.pivot_table(index="row", columns="model", values="value", sort=False)[models]
    wide.insert(0, "metric", text.drop_duplicates("row").set_index("row")["metric"])
    return wide


def markdown(wide: pd.DataFrame) -> str:
    """A table for a page, the best of each row in bold.

    Parameters
    ----------
    wide
        From `wide_means`.

    Returns
    -------
    str
        Markdown.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.benchmark.report import markdown
    >>> print(markdown(pd.DataFrame({"metric": ["ari"], "pca": [0.4], "ours": [0.6]}, index=["a: regions"])), end="")
    | | pca | ours |
    |---|--:|--:|
    | a: regions | .40 | **.60** |
    """
    models = [name for name in wide.columns if name != "metric"]
    lines = ["| | " + " | ".join(models) + " |", "|---|" + "--:|" * len(models)]
    for label, row in wide.iterrows():
        values = row[models].astype(float)
        best = values.min() if row["metric"] in LOWER_IS_BETTER else values.max()
        texts = ["" if pd.isna(value) else f"{value:.2f}".replace("0.", ".", 1) for value in values]
        marked = [
            f"**{text}**" if abs(value - best) < 5e-4 else text for text, value in zip(texts, values, strict=True)
        ]
        lines.append(f"| {label} | " + " | ".join(marked) + " |")
    return "\n".join(lines) + "\n"


def _maps(table: pd.DataFrame, out: Path, ours: str) -> list[Path]:
    """Truth, prediction and error of each slice, of the first seed and the strictest split that judged it."""
    rows = table[(table["model"] == ours) & (table["seed"] == table["seed"].min())]
    rows = rows[rows["split"].notna() & (rows["leaks"] == False) & (rows["shift"] == "none")]  # noqa: E712  of objects
    if rows.empty:  # as of clusters, which no split judges
        return []
    written: list[Path] = []
    drawn: set[tuple[str, str, str]] = set()
    # Whole slices first: nothing is stricter.
    rows = rows.drop_duplicates(["key", "slice"])
    rows = rows.assign(whole=rows["split_name"].str.startswith("other")).sort_values("whole", ascending=False)
    for row in rows.itertuples():
        place = (str(row.study), str(row.task), str(row.slice))
        path = out / PREDICTIONS / f"{row.key}.parquet"
        if place in drawn or not path.is_file():
            continue
        drawn.add(place)
        cells = pd.read_parquet(path)
        figure = prediction_maps(cells[cells["slice"] == row.slice], title=f"{row.slice}: {row.target}")
        file = out / "maps" / ("_".join(place).replace(" ", "_").replace("/", "_") + ".png")
        with atomic_path(file) as tmp:
            figure.savefig(tmp, dpi=90)
        written.append(file)
    return written


def _csv(table: pd.DataFrame, path: Path) -> Path:
    with atomic_path(path) as tmp:
        table.to_csv(tmp, index=False, float_format="%.4f")
    return path
