"""Everything one run has to show, in one HTML file that works offline."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stgraph._files import atomic_path
from stgraph.errors import InputError
from stgraph.plot._html import duration, legend, outline, page, picture, table, text, value_text
from stgraph.plot._scores import score_caption, score_tables
from stgraph.plot.embedding import FEWEST_CELLS, embedding_plot, umap_coordinates
from stgraph.plot.palette import MISSING, as_labels, label_colors, match_colors, sort_labels
from stgraph.plot.spatial import domain_map, figure_size, graph_histograms
from stgraph.plot.training import loss_curves, loss_names


@dataclass(frozen=True)
class SliceView:
    """What the report shows of one slice.

    Parameters
    ----------
    name
        Name of the slice.
    pos
        Positions, (N, 2).
    unit
        Unit of ``pos`` and ``edge_lengths``, ``"um"`` or ``"unknown"``.
    domains
        Domain of each cell, (N,) of str.
    labels
        Annotated label of each cell, (N,) of str, ``""`` where missing; or None.
    graph
        Graph statistics by name.
    edge_lengths
        Length of each edge, (E,), or None.
    degrees
        Number of neighbours of each cell, (N,), or None.

    Shapes
    ------
    N cells, E edges.
    """

    name: str
    pos: NDArray[Any]
    unit: str
    domains: NDArray[Any]
    labels: NDArray[Any] | None
    graph: Mapping[str, float | int | str]
    edge_lengths: NDArray[Any] | None
    degrees: NDArray[Any] | None


@dataclass(frozen=True)
class Report:
    """What the report says. Nothing else gets into the file.

    Parameters
    ----------
    title
        Title of the page.
    command
        The command that was run.
    slices
        The slices, at least one.
    embedding
        Embedding of all cells, (sum of N, C), rows in the order of ``slices``.
    history
        One row for each training step, as `loss_curves` takes them; may be empty.
    scores
        Tidy rows with ``slice``, ``method``, ``n_domains`` and columns of `stgraph.plot._scores.METRICS`; may be empty.
    timings
        Seconds by stage. A stage called ``total`` is taken as their sum.
    settings
        The resolved configuration, nested.
    notes
        What the user should know: unknown units, dropped genes and the like.
    environment
        Versions, device, seed; ``genes``, if given here or in ``settings``, goes to the headline.
    random_state
        Seed of the UMAP.
    method
        The ``method`` of the scores that belong to `SliceView.domains`.
    """

    title: str
    command: str
    slices: Sequence[SliceView]
    embedding: NDArray[Any]
    history: Sequence[Mapping[str, float]]
    scores: Sequence[Mapping[str, object]]
    timings: Mapping[str, float]
    settings: Mapping[str, object]
    notes: Sequence[str]
    environment: Mapping[str, str]
    random_state: int
    method: str = "stgraph"


def write_report(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write a report as one HTML file without any outside resource.

    The same report gives the same bytes. The file appears whole or not at all.

    Parameters
    ----------
    report
        What to show.
    path
        The file to write; its folder is created if needed.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    InputError
        If there is no slice, or arrays do not have one row for each cell.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from stgraph.plot import Report, SliceView, write_report
    >>> view = SliceView("a", np.eye(2), "um", np.array(["0", "1"]), None, {"cells": 2}, None, None)
    >>> report = Report("Example", "stgraph run", [view], np.eye(2), [], [], {}, {}, [], {}, random_state=0)
    >>> write_report(report, tempfile.mkdtemp() + "/report.html").name
    'report.html'
    """
    _check(report)
    domains = [as_labels(view.domains) for view in report.slices]
    labels = [np.full(len(view.pos), "") if view.labels is None else as_labels(view.labels) for view in report.slices]
    all_domains, all_labels = np.concatenate(domains), np.concatenate(labels)
    colors = label_colors(all_domains)
    label_color = match_colors(all_labels, all_domains, colors)
    sections = [
        ("Notes", _notes(report.notes)),
        ("Spatial domains", _maps(report, domains, labels, colors, label_color)),
        ("Scores", score_tables(report.scores)),
        ("Embedding", _embedding(report, all_domains, all_labels, colors, label_color)),
        ("Training", _training(report.history)),
        ("Graphs", _graphs(report.slices)),
        ("Timings", _timings(report.timings)),
        ("Settings", _settings(report.settings)),
        ("Environment", _pairs(report.environment)),
    ]
    content = page(
        title=report.title,
        header=_header(report, n_domains=len(colors)),
        sections=[(heading, body) for heading, body in sections if body],
    )
    path = Path(path)
    with atomic_path(path) as tmp:
        tmp.write_bytes(content.encode("utf-8"))
    return path


def _check(report: Report) -> None:
    if not report.slices:
        raise InputError("A report needs at least one slice.")
    for view in report.slices:
        for name, array in (("domains", view.domains), ("labels", view.labels)):
            if array is not None and len(array) != len(view.pos):
                raise InputError(f"Slice '{view.name}' has {len(view.pos)} positions but {len(array)} {name}.")
    n_cells = sum(len(view.pos) for view in report.slices)
    if len(report.embedding) != n_cells:
        raise InputError(f"The slices have {n_cells} cells but the embedding has {len(report.embedding)} rows.")


def _header(report: Report, *, n_domains: int) -> str:
    facts: dict[str, str] = {
        "slices": value_text(len(report.slices)),
        "cells": value_text(sum(len(view.pos) for view in report.slices)),
    }
    for source in (report.environment, report.settings):
        for key in ("genes", "n_genes", "num_genes"):
            genes = source.get(key)
            if "genes" not in facts and isinstance(genes, str | Integral):
                facts["genes"] = value_text(int(genes) if str(genes).isdecimal() else genes)
    facts["domains"] = value_text(n_domains)
    if report.history:
        last = report.history[-1].get("step", len(report.history))
        facts["training steps"] = value_text(int(last))
    if report.timings:
        facts["run time"] = duration(_total(report.timings))
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    command = f"<pre><code>{text(report.command)}</code></pre>" if report.command else ""
    heading = f'<p class="brand">stgraph report</p>\n<h1>{text(report.title)}</h1>'
    return f'{heading}\n{command}\n<dl class="facts">{listed}</dl>'


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{text(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _maps(
    report: Report,
    domains: Sequence[NDArray[np.str_]],
    labels: Sequence[NDArray[np.str_]],
    colors: Mapping[str, str],
    label_color: Mapping[str, str],
) -> str:
    head = legend(_present(colors, domains), name="Domains")
    if label_color:
        head += legend(_present(label_color, labels), name="Annotation")
        head += (
            '<p class="soft">Domains and annotated regions are paired one to one, so that pairs share as '
            "many cells as possible; a pair has one colour.</p>"
        )
    articles = []
    for view, domain, label in zip(report.slices, domains, labels, strict=True):
        n_domains = len(sort_labels(domain))
        pictures = [
            _map(
                view,
                domain,
                colors,
                what="domain",
                caption=score_caption(report.scores, report.method, view.name, n_domains),
            )
        ]
        if (label != "").any():
            caption = f"<b>Annotation</b>, {_counted(int((label != '').sum()), 'labelled cell')}"
            pictures.append(_map(view, label, label_color, what="annotated label", caption=caption))
        about = f"{_counted(len(domain), 'cell')}, {_counted(n_domains, 'domain')}"
        inner = f'<div class="pair">{"".join(pictures)}</div>' if label_color else "".join(pictures)
        articles.append(f"<article><h3>{text(view.name)} <span>{about}</span></h3>{inner}</article>")
    body = "\n".join(articles)
    return head + (body if label_color else f'<div class="grid">{body}</div>')


def _map(view: SliceView, labels: NDArray[np.str_], colors: Mapping[str, str], *, what: str, caption: str) -> str:
    figure = Figure(figsize=figure_size(np.asarray(view.pos, dtype=np.float64)))
    # The axes fill the figure, so that the maps of a slice lie on the same pixels; words are in the HTML.
    domain_map(view.pos, labels, colors=colors, unit=view.unit, ax=figure.add_axes((0, 0, 1, 1)), legend=False)
    about = f"{len(labels)} cells, {len(sort_labels(labels))} {what}s"
    alt = f"Map of slice {view.name} coloured by {what}: {about}."
    return picture(figure, alt=alt, caption=caption)


def _embedding(
    report: Report,
    domains: NDArray[np.str_],
    labels: NDArray[np.str_],
    colors: Mapping[str, str],
    label_color: Mapping[str, str],
) -> str:
    coords, index = umap_coordinates(report.embedding, random_state=report.random_state)
    name = "UMAP" if len(index) >= FEWEST_CELLS else "PC"
    slices = np.repeat([view.name for view in report.slices], [len(view.pos) for view in report.slices])
    shown = [("domain", domains, colors)]
    if len(report.slices) > 1:
        shown.insert(0, ("slice", slices, label_colors(slices)))
    if label_color:
        shown.append(("annotation", labels, label_color))
    articles = []
    for what, values, color in shown:
        figure = Figure(figsize=(4.7, 4.0), layout="constrained")
        embedding_plot(coords, values[index], colors=color, ax=figure.add_subplot(), legend=False, axis_name=name)
        alt = f"Embedding of {len(index)} cells in two dimensions, coloured by {what}."
        chips = legend(_present(color, [values]), name=what.capitalize())
        articles.append(f"<article>{picture(figure, alt=alt)}{chips}</article>")
    kind = "UMAP" if name == "UMAP" else "First two principal components"
    sample = f"{value_text(len(index))} of {value_text(len(domains))}" if len(index) < len(domains) else "all"
    about = f"{kind} of the embedding, {np.shape(report.embedding)[1]} channels, {sample} cells."
    return f'<p class="soft">{about}</p><div class="grid small">{"".join(articles)}</div>'


def _training(history: Sequence[Mapping[str, float]]) -> str:
    names = loss_names(history)
    if not names:
        return ""
    alt = f"Loss terms over {len(history)} logged steps: {', '.join(names)}."
    caption = "Dots: logged steps. Line: running median, its last value at the upper right."
    return picture(loss_curves(history), alt=alt, caption=caption)


def _graphs(slices: Sequence[SliceView]) -> str:
    keys = list(dict.fromkeys(key for view in slices for key in view.graph))
    rows = [[text(key), *(value_text(view.graph.get(key)) for view in slices)] for key in keys]
    body = table(["", *(text(view.name) for view in slices)], rows) if rows else ""
    articles = []
    for view in slices:
        given = [array for array in (view.degrees, view.edge_lengths) if array is not None and np.isfinite(array).any()]
        if given:
            figure = graph_histograms(view.degrees, view.edge_lengths, unit=view.unit)
            alt = f"Histograms of the graph of slice {view.name}: neighbours of a cell and edge lengths."
            articles.append(picture(figure, alt=alt, caption=f"<b>{text(view.name)}</b>"))
    return body + (f'<div class="grid">{"".join(articles)}</div>' if articles else "")


def _timings(timings: Mapping[str, float]) -> str:
    stages = {name: float(seconds) for name, seconds in timings.items() if name != "total"}
    total = _total(timings)
    longest = max(stages.values(), default=0.0) or 1.0
    rows = [
        [
            text(name),
            duration(seconds),
            f'<span class="bar" style="width:{100 * seconds / longest:.1f}%"></span>',
        ]
        for name, seconds in stages.items()
    ]
    if not timings:
        return ""
    aside = '<p class="soft">Starting the program and drawing this page, its UMAP above all, are not counted.</p>'
    return f'<div class="bars">{table(["stage", "time", ""], rows, foot=["total", duration(total), ""])}</div>{aside}'


def _settings(settings: Mapping[str, object]) -> str:
    if not settings:
        return ""
    code = f"<pre><code>{text(outline(settings))}</code></pre>"
    return f"<details><summary>Resolved settings of this run</summary>{code}</details>"


def _pairs(pairs: Mapping[str, str]) -> str:
    rows = [[text(key), text(value)] for key, value in pairs.items()]
    return f'<div class="left">{table(["", ""], rows)}</div>' if rows else ""


def _counted(n: int, noun: str) -> str:
    return f"{value_text(n)} {noun}{'s' * (n != 1)}"


def _present(colors: Mapping[str, str], labels: Sequence[NDArray[np.str_]]) -> dict[str, str]:
    """Entries of a legend: the colours, and grey if a cell of a labelled slice has no label."""
    gap = any((some == "").any() and (some != "").any() for some in labels)
    return {**colors, "no label": MISSING} if gap else dict(colors)


def _total(timings: Mapping[str, float]) -> float:
    return float(timings["total"]) if "total" in timings else float(sum(timings.values()))
