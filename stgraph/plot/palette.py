"""One colour for one label, the same in every figure and every slice."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from stgraph.errors import InputError

MISSING = "#d9d9d9"
"""Colour of a cell without a label."""

# The first seven are Okabe and Ito's (jfly.uni-koeln.de/color, without black). Each later one is the colour
# of moderate chroma farthest from all before it, and from white and the grey above, in Oklab as seen with
# normal, deuteranopic and protanopic eyes (Machado et al. 2009); so the first n are a good choice for any n.
PALETTE: tuple[str, ...] = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"),
    *("#6d0000", "#3d1879", "#aa3161", "#00e7b6", "#3d6100", "#6186f3", "#004949", "#ffc2ff", "#ff9e9e"),
    *("#3dc26d", "#493daa", "#006d6d", "#860055", "#318600", "#92ffe7", "#aa49aa", "#e792ff", "#00e7ff"),
    *("#009eb6", "#aa3100", "#cece79", "#e7796d", "#c25561"),
)


def as_labels(values: object) -> NDArray[np.str_]:
    """Labels as strings, with ``""`` where a label is missing (None, NaN, ``""``).

    Examples
    --------
    >>> from stgraph.plot.palette import as_labels
    >>> as_labels(["L1", None, 3]).tolist()
    ['L1', '', '3']
    """
    array: NDArray[Any] = np.asarray(values if hasattr(values, "__array__") else _listed(values))
    if array.dtype.kind in "US":
        return array.astype(np.str_)
    missing = pd.isna(array)
    return np.array(["" if gone else str(value) for value, gone in zip(array, missing, strict=True)], dtype=np.str_)


def sort_labels(labels: Iterable[object]) -> list[str]:
    """Distinct labels in the order a person expects: ``"2"`` before ``"10"``; missing ones left out.

    Examples
    --------
    >>> from stgraph.plot.palette import sort_labels
    >>> sort_labels(["L10", "L2", "", "L2"])
    ['L2', 'L10']
    """
    return sorted({str(label) for label in as_labels(labels).tolist()} - {""}, key=_natural)


def palette(n: int) -> list[str]:
    """Give the first ``n`` colours, as ``#rrggbb``.

    Thirty are told apart by hue and lightness. Beyond that no palette can help; the same
    hues come again lighter, then darker, so that up to ninety labels still differ.

    Examples
    --------
    >>> from stgraph.plot.palette import palette
    >>> palette(2)
    ['#0072b2', '#e69f00']
    """
    return [_shade(PALETTE[i % len(PALETTE)], i // len(PALETTE)) for i in range(n)]


def label_colors(labels: Iterable[object]) -> dict[str, str]:
    """Colour of each distinct label: label ``i`` of the sorted list gets colour ``i``.

    Give it the labels of all slices at once, and a domain has one colour throughout.

    Examples
    --------
    >>> from stgraph.plot.palette import label_colors
    >>> label_colors(["10", "2"])
    {'2': '#0072b2', '10': '#e69f00'}
    """
    order = sort_labels(labels)
    return dict(zip(order, palette(len(order)), strict=True))


def match_colors(labels: Iterable[object], reference: Iterable[object], colors: Mapping[str, str]) -> dict[str, str]:
    """Colours for one labelling that follow another labelling of the same cells.

    Labels and reference labels are paired so that the pairs share as many cells as possible;
    a paired label takes its partner's colour, the others take colours not yet in use.

    Parameters
    ----------
    labels
        (N,) labels that need colours, ``""`` where missing.
    reference
        (N,) labels that have them.
    colors
        Colour of each reference label.

    Returns
    -------
    dict
        Colour of each distinct label.

    Examples
    --------
    >>> from stgraph.plot.palette import match_colors
    >>> match_colors(["wm", "wm", "gm"], ["1", "1", "0"], {"0": "#111111", "1": "#222222"})
    {'gm': '#111111', 'wm': '#222222'}
    """
    names, others = as_labels(labels), as_labels(reference)
    order, other_order = sort_labels(names), sort_labels(others)
    both = (names != "") & (others != "")
    shared = (
        pd.crosstab(names[both], others[both])
        .reindex(index=order, columns=other_order, fill_value=0)
        .to_numpy(dtype=np.float64)
    )
    taken: dict[str, str] = {}
    for row, column in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if shared[row, column] > 0:
            taken[order[row]] = colors[other_order[column]]
    # A free colour must not say "same as that domain", so none of the reference's are reused.
    used = set(colors.values())
    free = [color for color in palette(len(used) + len(order)) if color not in used]
    spare = iter(free)
    return {name: taken[name] if name in taken else next(spare) for name in order}


def point_colors(labels: NDArray[np.str_], colors: Mapping[str, str]) -> NDArray[np.float64]:
    """Colours of cells, (N, 3) RGB in [0, 1]; `MISSING` for ``""``.

    Raises
    ------
    InputError
        If a label has no colour.
    """
    names, index = np.unique(labels, return_inverse=True)
    lost = [str(name) for name in names if name and str(name) not in colors]
    if lost:
        raise InputError(f"No colour given for the labels {', '.join(map(repr, lost[:5]))}.")
    table = np.array([to_rgb(colors[str(name)] if name else MISSING) for name in names], dtype=np.float64)
    return table.reshape(-1, 3)[index]


def _listed(values: object) -> list[object]:
    if isinstance(values, Iterable) and not isinstance(values, str | bytes):
        return list(values)
    raise InputError(f"Labels are a sequence with one entry for each cell, not {values!r}.")


def _natural(label: str) -> tuple[list[tuple[int, int, str]], str]:
    # Digit runs compare by length and then digit by digit, which is by value without int()'s limits.
    # re.split with a group alternates text and digits, so like always meets like.
    parts = re.split(r"([0-9]+)", label)
    key = [(1, len(part.lstrip("0")), part.lstrip("0")) if i % 2 else (0, 0, part) for i, part in enumerate(parts)]
    return key, label


def _shade(color: str, turn: int) -> str:
    towards, share = ((0.0, 0.0), (1.0, 0.45), (0.0, 0.4))[turn % 3]
    return str(to_hex([c + share * (towards - c) for c in to_rgb(color)]))
