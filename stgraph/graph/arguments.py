"""Checks of the numbers that builders and steps are made with."""

import numpy as np

from stgraph.errors import InputError


def check_whole(owner: object, name: str, least: int = 1) -> None:
    """Refuse an attribute that is no whole number of at least ``least``.

    Parameters
    ----------
    owner
        Whose attribute it is; its class is named in the error.
    name
        Of the attribute.
    least
        Smallest number allowed.

    Raises
    ------
    InputError
        If it is something else.

    Examples
    --------
    >>> from stgraph.graph.arguments import check_whole
    >>> from stgraph.graph.builders import KNN
    >>> check_whole(KNN(3), "n_neighbors")
    """
    value, who = getattr(owner, name), type(owner).__name__
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{who} needs a whole number as {name}, not {value!r}.")
    if value < least:
        raise InputError(f"{who} needs {name} of at least {least}, not {value}.")


def check_positive(owner: object, name: str, unit: str = "") -> None:
    """Refuse an attribute that is no positive, finite number.

    Parameters
    ----------
    owner, name
        As for `check_whole`.
    unit
        What it is counted in, as " in microns"; it becomes part of the error.

    Raises
    ------
    InputError
        If it is something else.

    Examples
    --------
    >>> from stgraph.graph.arguments import check_positive
    >>> from stgraph.graph.builders import Radius
    >>> check_positive(Radius(30.0), "radius", " in microns")
    """
    value = getattr(owner, name)
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (number and np.isfinite(value) and value > 0):
        raise InputError(f"{type(owner).__name__} needs a positive {name}{unit}, not {value!r}.")
