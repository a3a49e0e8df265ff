"""The model card: what is known about a model, for people and for the hub."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from stgraph._config import TARGET
from stgraph._version import __version__
from stgraph.errors import InputError

CARD = "README.md"

_TAGS = ("spatial-transcriptomics", "single-cell", "graph-neural-network", "biology")

_PARTS = {
    "encoder": "counts of a cell to its features",
    "builder": "who is whose neighbour",
    "virtual_cells": "cells to virtual cells",
    "model": "graph to embedding",
    "domains": "embedding to domains",
    "partitioner": "how slices are cut",
}

_UNKNOWN, _OTHER = "unknown", "other"


def card_facts(
    info: Mapping[str, Any],
    *,
    name: str | None = None,
    licence: str | None = None,
    data: str | None = None,
    metrics: Mapping[str, float] | None = None,
    carried: Sequence[str] = (),
) -> dict[str, Any]:
    """What a person says about a model, checked, over what ``info["card"]`` remembers from before.

    Parameters
    ----------
    info
        Of the model.
    name, licence, data, metrics
        As of `stgraph.tasks.pretrained.Pretrained.save_pretrained`; None leaves what is remembered.
    carried
        Texts of the licences that the weights carry, where they are somebody else's; the licence is then "other".

    Returns
    -------
    dict
        What JSON can hold; empty if nothing is known.

    Raises
    ------
    InputError
        If the licence has not the form of one, or is not that of the weights, or a score is not a number.

    Examples
    --------
    >>> from stgraph.tasks.model_card import card_facts
    >>> card_facts({"card": {"licence": "mit"}}, metrics={"ARI": 0.5})
    {'licence': 'mit', 'metrics': {'ARI': 0.5}}
    """
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise InputError(
            f"The licence {licence!r} is not written as the hub does: 'mit', 'bsd-3-clause', 'cc-by-4.0', or 'other'."
        )
    if carried and licence not in (None, _OTHER):
        raise InputError(
            f"The weights carry a licence ({'; '.join(carried)}), so the model cannot be given {licence!r}: leave the "
            f"licence out, or say {_OTHER!r}."
        )
    for metric, value in (metrics or {}).items():
        if isinstance(value, bool | str) or not math.isfinite(value):
            raise InputError(f"The score {metric!r} of the model card must be a finite number, not {value!r}.")
    scores = None if metrics is None else {str(metric): float(value) for metric, value in metrics.items()}
    terms = list(carried) or None
    said = {"name": name, "licence": _OTHER if carried else licence, "terms": terms, "data": data, "metrics": scores}
    return dict(info.get("card", {})) | {key: value for key, value in said.items() if value is not None}


def model_card(
    folder: str, parts: Mapping[str, Any], info: Mapping[str, Any], *, genes: Sequence[str], num_weights: int
) -> str:
    """The text of ``README.md``: YAML that the hub reads, then Markdown.

    It says what is in the settings and in ``info``, and what is not known where it is not; it praises nothing.

    Parameters
    ----------
    folder
        Name of the model directory, for models without a name of their own.
    parts
        Config of each part of the model.
    info
        What is known of its training; ``info["card"]`` is what `card_facts` gave.
    genes
        Names of the genes it reads.
    num_weights
        Numbers in the network.

    Returns
    -------
    str
        Ends with a newline.

    Examples
    --------
    >>> from stgraph.tasks.model_card import model_card
    >>> card = model_card("mine", {"model": {"_target_": "lab.Net", "depth": 2}}, {}, genes=["MBP"], num_weights=9)
    >>> print(*card.splitlines()[1:3], sep="; ")
    library_name: stgraph; license: unknown
    """
    said = info.get("card", {})
    name = _line(said.get("name") or folder)
    front = {"library_name": "stgraph", "license": said.get("licence", _UNKNOWN), "tags": list(_TAGS)}
    sections = {
        f"# {name}": _what(parts, genes, num_weights),
        "## Data": _data(info),
        "## Settings": _settings(parts, info),
        "## Scores": _scores(said.get("metrics")),
        "## Use": _use(name, _packages(parts)),
        "## Limits": _limits(parts, info, genes),
    }
    body = "\n".join(f"{title}\n\n{text}\n" for title, text in sections.items())
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{body}"


def _what(parts: Mapping[str, Any], genes: Sequence[str], num_weights: int) -> str:
    rows = [f"| {_PARTS.get(name, name)} | `{part[TARGET]}` |" for name, part in parts.items() if part]
    return "\n".join(
        [
            f"A model for spatial transcriptomics, made with stgraph {__version__}. From the counts and coordinates of "
            "the cells or spots of a section of tissue it makes an embedding of each.",
            "",
            f"Its network has {num_weights:,} weights; it reads {len(genes):,} genes (`genes.txt`). Its parts:",
            "",
            "| what it does | class |",
            "|---|---|",
            *rows,
        ]
    )


def _data(info: Mapping[str, Any]) -> str:
    slices, cells = info.get("slices"), info.get("num_cells")
    lines = [str(info["card"]["data"]).strip()] if info.get("card", {}).get("data") else []
    if slices:
        named = ", ".join(f"`{_line(str(each))}`" for each in slices[:20])
        named += f" and {len(slices) - 20} more (`config.json` has them all)" if len(slices) > 20 else ""
        count = "" if cells is None else f", {cells:,} cells together"
        lines.append(f"Slices it was trained on: {len(slices)}{count}: {named}.")
    return "\n\n".join(lines) or "What it was trained on is not recorded."


def _settings(parts: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    # Those of the training hold those of the parts; where there are none, the parts are all there is.
    settings = info.get("settings") or {name: part for name, part in parts.items() if part}
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    # A fence longer than any in the text, which may be somebody's.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}yaml\n{text}{fence}"


def _scores(metrics: Mapping[str, float] | None) -> str:
    if not metrics:
        return "None are recorded."
    rows = [f"| {_line(name)} | {value:.4g} |" for name, value in metrics.items()]
    return "\n".join(["As stated by whoever saved the model.", "", "| score | value |", "|---|--:|", *rows])


def _use(name: str, packages: Sequence[str]) -> str:
    more = f", trust={list(packages)}" if packages else ""
    code = [
        "import stgraph",
        'adata = stgraph.read("slice.h5ad")  # counts, and coordinates in obsm["spatial"]',
        f"embedded = stgraph.embed(adata, {name!r}{more})  # or the folder of this file",
    ]
    return "\n".join(
        ["```python", *code, "```", "", 'The embedding is `embedded.obsm["X_stgraph"]`. No code of this folder is run.']
    )


def _limits(parts: Mapping[str, Any], info: Mapping[str, Any], genes: Sequence[str]) -> str:
    lines = [
        "A slice needs raw counts, coordinates, and genes under names of the same kind as "
        + ", ".join(f"`{_line(gene)}`" for gene in genes[:3])
        + "."
        if genes
        else "A slice needs raw counts and coordinates.",
    ]
    if not parts.get("domains"):
        lines.append("It finds no domains: it gives embeddings only.")
    if len(info.get("slices") or []) == 1:
        lines.append("It was trained on one slice: nothing says how it does on another.")
    if not info.get("card", {}).get("metrics"):
        lines.append("No score of it is recorded: compare it with simple methods (`stgraph benchmark`) before use.")
    if not info.get("card", {}).get("licence"):
        lines.append("Its licence is not known: ask whoever made it.")
    lines += [f"Its weights come with a licence: {_line(text)}." for text in info.get("card", {}).get("terms", [])]
    if packages := _packages(parts):
        lines.append(f"It has parts of other packages ({', '.join(packages)}), which must be installed and trusted.")
    return "\n".join(f"- {line}" for line in lines)


def _packages(config: Any) -> list[str]:
    """Packages beside stgraph of the classes that a config names."""
    found: set[str] = set()
    if isinstance(config, Mapping):
        if TARGET in config:
            found.add(str(config[TARGET]).partition(".")[0])
        found.update(*map(_packages, config.values()))
    elif isinstance(config, list | tuple):
        found.update(*map(_packages, config))
    return sorted(found - {"stgraph"})


def _line(text: str) -> str:
    """Text of others on one line, that cannot end a table cell, a heading or a piece of code."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
