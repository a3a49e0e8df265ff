"""Sweeps over recipes that train in stages: a folder for each point."""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import yaml
from rich.console import Console

from stgraph._files import atomic_path
from stgraph.benchmark.run import reason_of
from stgraph.cli.compose import compose_config
from stgraph.cli.executor import executor_of
from stgraph.cli.sweep import Point, Sweep
from stgraph.cli.train_run import SWEEP_MARK, check_out, run_train, slice_files
from stgraph.data.jobs import Progress, each_done
from stgraph.errors import InputError, StgraphWarning

TABLE = "sweep.csv"
"""What came of a sweep, in its folder."""

_LENGTH = 100
"""Letters of the name of a folder, at most."""

_NOT_LOSSES = frozenset({"step", "epoch", "lr", "cells_per_second"})


@dataclass(frozen=True)
class Trial:
    """One point, ready to train.

    Attributes
    ----------
    point
        Its name and axes.
    config
        Its settings; ``out`` is its own folder.
    quiet
        Whether others train at the same time, so that progress would be mixed up.
    """

    point: Point
    config: Mapping[str, Any]
    quiet: bool = False


@dataclass(frozen=True)
class Trained:
    """What came of a point.

    Attributes
    ----------
    seconds
        Wall time.
    notes
        Warnings of stgraph.
    """

    seconds: float
    notes: tuple[str, ...]


def run_staged(sweep: Sweep, *, workers: int = 1, progress: Progress | None = None) -> pd.DataFrame:
    """Train each point in a folder of its own, or go on.

    Parameters
    ----------
    sweep
        Of an experiment with stages.
    workers
        Processes, where the settings name no executor.
    progress
        Told of the points done.

    Returns
    -------
    DataFrame
        One row for each point: ``name``, its axes, ``folder``, ``seconds``, ``reason`` (empty if it
        was trained), ``notes`` and the last losses of each stage. It is written as ``sweep.csv`` too.

    Raises
    ------
    InputError
        If no point can be composed, or the folder or the files cannot be used.
    """
    if sweep.axis("out") is not None:
        raise InputError("A sweep has one out=, in which each point gets a folder.")
    points = sweep.points()
    configs: dict[str, dict[str, Any]] = {}
    reasons: dict[str, str] = {}
    for point in points:
        try:
            configs[point.name] = compose_config("train", [*sweep.fixed, *point.settings], option="")
        except InputError as error:
            reasons[point.name] = reason_of(error)
    if not configs:
        raise InputError(next(iter(reasons.values())))
    first = next(iter(configs.values()))
    if first.get("out") in (None, "???"):
        raise InputError("Say where the results go: out=DIR.")
    out, executor_config = Path(str(first["out"])), first.get("executor")
    check_out(out, slice_files(first["data"]["files"]) if first["data"]["files"] != "???" else [], mark=SWEEP_MARK)
    folders = _folders([point.name for point in points])
    quiet = workers > 1 or executor_config is not None
    trials = [
        Trial(point, {**configs[point.name], "out": str(out / folders[point.name]), "executor": None}, quiet)
        for point in points
        if point.name in configs
    ]
    tell = progress or (lambda stage, done, total: None)
    came: dict[str, Trained] = {}
    with executor_of(executor_config, workers) as executor:
        with atomic_path(out / SWEEP_MARK) as tmp:
            named = {folders[point.name]: point.axes for point in points}
            tmp.write_text(yaml.safe_dump({"points": named, "settings": list(sweep.fixed)}, sort_keys=False), "utf-8")
        for done, (trial, result) in enumerate(each_done(executor, train_point, trials), start=1):
            if isinstance(result, Exception):
                reasons[trial.point.name] = reason_of(result)
            else:
                came[trial.point.name] = result
            tell("points", done, len(trials))
    rows = []
    for point in points:
        what = came.get(point.name)
        rows.append(
            {"name": point.name, **point.axes, "folder": folders[point.name]}
            | {"seconds": what.seconds if what else None, "reason": reasons.get(point.name, "")}
            | {"notes": "; ".join(what.notes) if what else "", **_losses(out / folders[point.name])}
        )
    table = pd.DataFrame(rows)
    with atomic_path(out / TABLE) as tmp:
        table.to_csv(tmp, index=False)
    return table


def train_point(trial: Trial) -> Trained:
    """Train one point, here or in another process."""
    begin = perf_counter()
    console = Console(stderr=True, quiet=trial.quiet)
    console.print(f"-- {trial.point.name}", markup=False, highlight=False, soft_wrap=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", StgraphWarning)
        run_train(trial.config, console=console)
    notes = dict.fromkeys(str(each.message) for each in said)
    return Trained(perf_counter() - begin, tuple(notes))


def _folders(names: list[str]) -> dict[str, str]:
    """Names a file system takes, as readable as they can be."""
    plain = {name: re.sub(r"[^\w.,=+-]+", "-", name) for name in names}
    alone = list(plain.values())
    return {
        name: text
        if len(text) <= _LENGTH and alone.count(text) == 1 and text.strip(".")
        else f"{text[:_LENGTH]}-{blake2b(name.encode(), digest_size=4).hexdigest()}"
        for name, text in plain.items()
    }


def _losses(folder: Path) -> dict[str, float]:
    """Of the last step of each stage."""
    found: dict[str, float] = {}
    for file in sorted(folder.glob("stages/*/metrics.jsonl")):
        if lines := file.read_text(encoding="utf-8").splitlines():
            record = json.loads(lines[-1])
            found |= {f"{file.parent.name}.{name}": v for name, v in record.items() if name not in _NOT_LOSSES}
    return found
