"""How training in stages is shown: a bar for each stage on a terminal, lines in a log."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from stgraph.training.loop import Record
from stgraph.training.stages import StageResult, Watch

_NOT_LOSSES = {"step", "epoch", "lr", "cells_per_second"}

_LINES = 10
"""Lines of a stage in a log, at most, beside its first and last."""


class _Bars:
    """A `stgraph.training.stages.Watch` for a terminal: a bar while a stage trains, then a line."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None

    def begin(self, stage: str, num_steps: int) -> None:
        self.bar = Progress(*_columns(), console=self.console, transient=True)
        self.bar.add_task(stage, total=num_steps, losses="")
        self.bar.start()

    def step(self, stage: str, record: Record) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=int(record["step"]), losses=_losses(record))

    def end(self, result: StageResult) -> None:
        self.stop()
        _say(self.console, _end(result))

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class _Lines:
    """A `stgraph.training.stages.Watch` for a file that is read later."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.num_steps: dict[str, int] = {}

    def begin(self, stage: str, num_steps: int) -> None:
        self.num_steps[stage] = num_steps
        _say(self.console, f"{stage}: {num_steps} steps")

    def step(self, stage: str, record: Record) -> None:
        step, total = int(record["step"]), self.num_steps[stage]
        if step * _LINES // total > (step - 1) * _LINES // total:
            _say(self.console, f"{stage}: step {step} of {total}  {_losses(record)}")

    def end(self, result: StageResult) -> None:
        _say(self.console, _end(result))


@contextmanager
def stage_progress(console: Console) -> Iterator[Watch]:
    """Show how stages go.

    Parameters
    ----------
    console
        Where.

    Yields
    ------
    Watch
        To be given to `stgraph.training.stages.run_stages`.
    """
    if not console.is_interactive:
        yield _Lines(console)
        return
    bars = _Bars(console)
    try:
        yield bars
    finally:
        bars.stop()


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _losses(record: Record) -> str:
    losses = " ".join(f"{name} {value:.3f}" for name, value in record.items() if name not in _NOT_LOSSES)
    return f"{losses}  {record['cells_per_second']:,.0f} cells/s"


def _end(result: StageResult) -> str:
    how = {"trained": "trained", "resumed": "gone on with", "kept": "was done already"}[result.how]
    took = "" if result.how == "kept" else f" in {result.seconds:.0f} s"
    return f"{result.name}: {how}, {len(result.history)} steps{took}"
