"""Scores as the report shows them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stgraph.plot._html import table, text, value_text

METRICS: dict[str, tuple[str, int]] = {
    "ari": ("Adjusted Rand index", 1),
    "nmi": ("Normalised mutual information", 1),
    "ami": ("Adjusted mutual information", 1),
    "homogeneity": ("Homogeneity", 1),
    "completeness": ("Completeness", 1),
    "v_measure": ("V-measure", 1),
    "chaos": ("CHAOS", -1),
    "pas": ("PAS", -1),
}
"""Score columns that get a table of their own: title, and whether more (1) or less (-1) is better."""


def score_caption(scores: Sequence[Mapping[str, object]], method: str, name: str, n_domains: int) -> str:
    """Say which score the domains on a map have; say nothing unless one row is certainly meant.

    Parameters
    ----------
    scores
        Tidy rows.
    method
        The method whose domains are drawn. Its row counts if it has as many domains; one
        of ``METHOD as written`` counts in any case.
    name
        Name of the slice.
    n_domains
        Number of domains on the map.

    Returns
    -------
    str
        HTML.
    """
    ours = [row for row in scores if str(row.get("slice")) == name and _is_number(row.get("ari"))]
    rows = [row for row in ours if row.get("method") == f"{method} as written"]
    rows = rows or [row for row in ours if row.get("method") == method and row.get("n_domains") == n_domains]
    score = f", ARI {float(str(rows[0]['ari'])):.3f} against the annotation" if len(rows) == 1 else ""
    return f"<b>Domains</b>{score}"


def score_tables(scores: Sequence[Mapping[str, object]]) -> str:
    """HTML tables of tidy scores: one for each metric, slice by method, and all rows, folded.

    Parameters
    ----------
    scores
        Rows with ``slice``, ``method``, ``n_domains`` and columns of `METRICS`; may be empty.

    Returns
    -------
    str
        HTML.
    """
    if not scores:
        return ""
    frame = pd.DataFrame([dict(row) for row in scores])
    for column in ("slice", "method"):
        frame[column] = frame[column].astype(str) if column in frame else ""
    parts = [_pivot(frame, metric) for metric in METRICS if metric in frame]
    if any(parts) and "n_domains" in frame:
        parts.append('<p class="soft">In parentheses the number of domains; best values in bold.</p>')
    head = [text(column) for column in frame]
    rows = [[value_text(value) for value in row] for row in frame.itertuples(index=False)]
    listing = f"<details><summary>All {len(rows)} rows</summary>{table(head, rows)}</details>"
    return "".join(parts) + listing


def _pivot(frame: pd.DataFrame, metric: str) -> str:
    title, sign = METRICS[metric]
    frame = frame.assign(**{metric: pd.to_numeric(frame[metric], errors="coerce")}).dropna(subset=[metric])
    if frame.empty:
        return ""
    slices, methods = list(dict.fromkeys(frame["slice"])), list(dict.fromkeys(frame["method"]))
    values = pd.DataFrame(
        {
            method: [
                frame.loc[(frame["slice"] == name) & (frame["method"] == method), metric].mean() for name in slices
            ]
            for method in methods
        },
        index=slices,
        dtype=float,
    )

    def best(row: Sequence[float]) -> list[str]:
        shown = [f"{value:.3f}" if np.isfinite(value) else "–" for value in row]
        finite = [float(cell) * sign for cell in shown if cell != "–"]
        # Among what is shown: two methods that read the same are both best; a lone one beats nobody.
        top = max(finite) if len(finite) > 1 else np.inf
        return [f"<b>{cell}</b>" if cell != "–" and float(cell) * sign == top else cell for cell in shown]

    rows = []
    for i, name in enumerate(slices):
        cells = best(values.iloc[i].tolist())
        for j, method in enumerate(methods):
            group = frame[(frame["slice"] == name) & (frame["method"] == method)]
            cells[j] += _domain_count(group)
        rows.append([text(name), *cells])
    foot: list[str] = []
    if len(slices) > 1:
        complete = values.notna().all()
        # A mean over fewer slices is another quantity: shown, but not compared.
        foot = ["mean", *best(values.mean().where(complete).tolist())]
        for j, method in enumerate(methods):
            if not complete[method]:
                n = int(values[method].notna().sum())
                foot[j + 1] = f"{values[method].mean():.3f} <small>({n} of {len(slices)} slices)</small>"
    direction = "" if sign > 0 else " <span>(less is better)</span>"
    return f"<h3>{title}{direction}</h3>" + table(["slice", *map(text, methods)], rows, foot=foot)


def _domain_count(group: pd.DataFrame) -> str:
    if group.empty:
        return ""
    said = []
    known = pd.to_numeric(group.get("n_domains", pd.Series(dtype=float)), errors="coerce").dropna()
    if len(known):
        low, high = int(known.min()), int(known.max())
        said.append(str(low) if low == high else f"{low}–{high}")
    if len(group) > 1:
        said.append(f"mean of {len(group)}")
    return f" <small>({', '.join(said)})</small>" if said else ""


def _is_number(value: object) -> bool:
    return isinstance(value, float | int | np.number) and bool(np.isfinite(float(value)))
