"""What ``stgraph train -m`` does: a sweep over models that are judged, or over recipes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from stgraph.benchmark.run import Outcome
from stgraph.benchmark.scaling_report import write_scaling
from stgraph.cli.long_jobs import counted, number, resumable
from stgraph.cli.notes import spoken
from stgraph.cli.sweep import SWEEP, Sweep, read_sweep
from stgraph.cli.sweep_judged import METHOD, Judged, check_judged, read_judged, run_judged
from stgraph.cli.sweep_staged import run_staged
from stgraph.errors import InputError

_TEXTS = {"benchmark": "judging", "points": "points"}


def run_sweep(settings: Sequence[str], *, workers: int = 1) -> None:
    """Run what settings span, and say what came of it.

    Parameters
    ----------
    settings
        Of the command line.
    workers
        Processes.

    Raises
    ------
    InputError
        If nothing can be run.
    typer.Exit
        With code 1 if some points failed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("A sweep is started once, not by torchrun: --workers or executor= runs its points.")
    sweep = _read(settings)
    with spoken():
        failed = _judged(sweep, workers) if METHOD in sweep.experiment else _staged(sweep, workers)
    if failed:
        raise typer.Exit(1)


def show_sweep(settings: Sequence[str]) -> str:
    """What would run, as YAML."""
    sweep = _read(settings)
    content: dict[str, Any] = {"axes": {axis.key: list(axis.values) for axis in sweep.axes}}
    if METHOD in sweep.experiment:
        judged = read_judged(sweep)
        beside = [name for name in judged.grid.models if name not in judged.points]
        content |= {"points": list(judged.points), "beside": beside, "cannot be built": dict(judged.failed)}
        settings_of_first = {key: value for key, value in judged.settings.items() if key != SWEEP}
        content |= {"settings of the first point": settings_of_first}
    else:
        content |= {"points": [point.name for point in sweep.points()], "settings": list(sweep.fixed)}
    text: str = yaml.safe_dump(content, sort_keys=False)
    return text


def _read(settings: Sequence[str]) -> Sweep:
    sweep = read_sweep("train", settings)
    if not sweep.axes:
        raise InputError("-m runs a sweep, but no setting has several values: give some, as in random_state=0,1.")
    return sweep


def _judged(sweep: Sweep, workers: int) -> int:
    judged = read_judged(sweep)
    for name, reason in judged.failed.items():
        typer.secho(f"note: {name} cannot be built, the others go on: {reason}", fg="yellow", err=True)
    out = Path(str(judged.settings["out"]))
    check_judged(judged)
    points, models, seeds = len(judged.points), len(judged.grid.models), len(judged.grid.seeds)
    beside = f" and {number(models - points, 'model')} beside" if models > points else ""
    typer.echo(f"{number(points, 'point')}{beside}, {number(seeds, 'seed')}; results go to {out}", err=True)
    with resumable(out), counted(_TEXTS) as progress:
        outcome = run_judged(judged, workers=workers, progress=progress)
        written = _report(judged, outcome, out)
    for note in outcome.notes:
        typer.echo(f"note: {note}", err=True)
    for failure in outcome.failures.itertuples():
        where = ", ".join(str(part) for part in (failure.model, failure.task, failure.split) if part)
        seed = f", seed {failure.seed}" if failure.seed != "" else ""
        typer.secho(f"error: {where}{seed}: {failure.reason}", fg="red", err=True)
    names = ", ".join(path.name for path in written if path.suffix != ".svg")
    said = f"{number(len(outcome.table), 'number')} in table.csv and table.parquet"
    typer.echo("; ".join(filter(None, [f"{out}: {said}", names])), err=True)
    return len(outcome.failures)


def _report(judged: Judged, outcome: Outcome, out: Path) -> list[Path]:
    if outcome.table.empty:
        return []
    draw = judged.settings.get("draw") or {}
    # Where all points of an axis failed there is nothing to draw against it.
    there = [name for name in judged.axes if outcome.table[name].notna().any()]
    against, size = (name if name in there else None for name in (draw.get("against"), draw.get("size")))
    beside = [name for name in judged.grid.models if name not in judged.points]
    return write_scaling(outcome.table, there, out, against=against, size=size, beside=beside)


def _staged(sweep: Sweep, workers: int) -> int:
    out = next((Path(text.partition("=")[2]) for text in sweep.fixed if text.startswith("out=")), Path())
    with resumable(out), counted(_TEXTS) as progress:
        # One after the other they have bars of their own.
        table = run_staged(sweep, workers=workers, progress=progress if workers > 1 else None)
    for row in table[table["notes"] != ""].itertuples():
        typer.secho(f"note: {row.name}: {row.notes}", fg="yellow", err=True)
    failed = table[table["reason"] != ""]
    for row in failed.itertuples():
        typer.secho(f"error: {row.name}: {row.reason}", fg="red", err=True)
    typer.echo(f"{out}: {len(table) - len(failed)} of {len(table)} points are trained; sweep.csv", err=True)
    return len(failed)
