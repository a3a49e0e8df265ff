"""The record of a run: a progress bar for people, JSON lines for programs."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stgraph.training.records import Record

_NOT_LOSSES = {"step", "epoch", "lr", "cells_per_second"}


@contextmanager
def progress_bar(max_steps: int, *, console: Console | None = None) -> Iterator[Callable[[Record], None]]:
    """A bar that shows losses and cells per second.

    Parameters
    ----------
    max_steps
        Steps in all; a run that was taken up begins where it was left.
    console
        Where to draw; standard error by default, so that output can be piped.

    Yields
    ------
    callable
        To be given each record.
    """
    columns = [
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    ]
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task("training", total=max_steps, losses="")

        def show(record: Record) -> None:
            losses = " ".join(f"{name} {value:.3f}" for name, value in record.items() if name not in _NOT_LOSSES)
            speed = f"{record['cells_per_second']:,.0f} cells/s"
            progress.update(task, completed=int(record["step"]), losses=f"{losses}  {speed}")

        yield show


@contextmanager
def json_lines(path: str | os.PathLike[str]) -> Iterator[Callable[[Record], None]]:
    """Append each record to a file as a line of JSON, flushed at once.

    Parameters
    ----------
    path
        The file; a line is whole or absent, whenever the process ends.

    Yields
    ------
    callable
        To be given each record.
    """
    with open(path, "a", encoding="utf-8") as handle:  # noqa: PTH123

        def write(record: Record) -> None:
            handle.write(json.dumps(record) + "\n")
            handle.flush()

        yield write
