"""Warnings of stgraph, said to the person at the terminal and kept for the report."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from stgraph.errors import StgraphWarning


@contextmanager
def spoken() -> Iterator[list[str]]:
    """Print each `StgraphWarning` as a note on standard error, once, and collect it.

    Warnings of other libraries are for developers and are not shown. Control-C is said
    aloud too, and ends the program with code 130.

    Yields
    ------
    list of str
        The notes so far.
    """
    notes: list[str] = []

    def say(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in notes:
            notes.append(str(message))
            typer.secho(f"note: {message}", fg="yellow", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", StgraphWarning)
        warnings.showwarning = say
        try:
            yield notes
        except KeyboardInterrupt:
            typer.secho("interrupted: nothing was written.", fg="red", err=True)
            raise typer.Exit(130) from None
