"""Run a grid: resumable, in parallel, to one tidy table."""

import inspect
import json
import traceback
import warnings
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from stgraph import _keys
from stgraph._config import TARGET, import_class, instantiate
from stgraph._files import atomic_path
from stgraph.benchmark.grid import Grid, Unit, unmixes
from stgraph.benchmark.kept import Kept
from stgraph.benchmark.study import Study
from stgraph.data.documents import fingerprint, read_document, write_document
from stgraph.data.jobs import Progress, each_done
from stgraph.errors import InputError, StgraphWarning, StoreError
from stgraph.tasks.result import TaskResult

UNITS, DESCRIPTIONS, PREDICTIONS = "units", "descriptions", "predictions"
"""Folders of a benchmark: finished units, slow descriptions, and what was predicted of each cell."""

TABLE, FAILURES = "table", "failures.csv"


@dataclass(frozen=True)
class Job:
    """Units that share a study, a model and a seed, and so descriptions.

    Attributes
    ----------
    grid
        Where configs stand.
    study
        What it reads.
    units
        What it runs.
    out
        Folder of the benchmark.
    """

    grid: Grid
    study: Study
    units: tuple[Unit, ...]
    out: Path


@dataclass
class Outcome:
    """What a benchmark gave.

    Attributes
    ----------
    table
        One row for each number.
    failures
        One row for each unit that failed, with the reason; they run again the next time.
    notes
        What was left out, and why.
    """

    table: pd.DataFrame
    failures: pd.DataFrame
    notes: list[str]


def run_benchmark(
    grid: Grid, out: Path, *, executor: Executor | None = None, progress: Progress | None = None
) -> Outcome:
    """Run what is not there yet, and write the table.

    Each unit is written as soon as it is done, whole or not at all; a run that was stopped
    goes on where it was when it is started again. A unit that fails is noted, and does not
    stop the others.

    Parameters
    ----------
    grid
        What to run.
    out
        Folder for the table; made if needed.
    executor
        What runs jobs: any of `concurrent.futures`; the calling thread without.
    progress
        Told of the units done.

    Returns
    -------
    Outcome
        Also written: ``table.csv``, ``table.parquet`` and ``failures.csv``.

    Raises
    ------
    InputError
        If the files of a study cannot be used, or nothing can run on them.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import stgraph
    >>> from stgraph.benchmark.grid import Grid
    >>> from stgraph.benchmark.run import run_benchmark
    >>> from stgraph.benchmark.study import Study
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stgraph.synthetic_tissue(n_cells=500, n_genes=60)[0].write_h5ad(f"{folder}/a.h5ad")
    ...     study = Study("made", ["a.h5ad"], labels={"domain": "domain"})
    ...     models = ["majority", "neighbor_pca"]
    ...     grid = Grid.of([study], tasks=["region"], models=models, splits=["random"], root=Path(folder))
    ...     table = run_benchmark(grid, Path(folder) / "out").table
    >>> majority, neighbor_pca = table.loc[table["metric"] == "macro_f1", "value"]
    >>> bool(neighbor_pca > majority + 0.3)
    True
    """
    jobs: list[Job] = []
    every: list[Unit] = []
    notes: list[str] = []
    for study in grid.studies:
        units, left_out = grid.units(study, study.load(grid.root))
        every += units
        notes += left_out
        groups: dict[tuple[str, int], list[Unit]] = {}
        for unit in units:
            if not _is_done(out, unit):
                groups.setdefault((unit.model, unit.seed), []).append(unit)
        jobs += [Job(grid, study, tuple(group), out) for group in groups.values()]
    if not every:
        raise InputError(f"Nothing can run: {'; '.join(notes) or 'no model does any of the tasks'}.")
    out.mkdir(parents=True, exist_ok=True)
    done = len(every) - sum(len(job.units) for job in jobs)
    failed: list[dict[str, Any]] = []
    tell = progress or (lambda stage, now, total: None)
    tell("benchmark", done, len(every))
    for job, came in each_done(executor, run_job, jobs):
        if isinstance(came, Exception):  # the job as a whole, as when its files are gone
            came = [{**asdict(unit), "reason": reason_of(came)} for unit in job.units]  # noqa: PLW2901
        failed += came
        done += len(job.units)
        tell("benchmark", done, len(every))
    table = gather(out, every, grid.axes)
    failures = pd.DataFrame(failed, columns=[*Unit.__dataclass_fields__, "reason"])
    with atomic_path(out / f"{TABLE}.csv") as tmp:
        table.to_csv(tmp, index=False)
    with atomic_path(out / f"{TABLE}.parquet") as tmp:
        table.to_parquet(tmp, index=False)
    with atomic_path(out / FAILURES) as tmp:
        failures.to_csv(tmp, index=False)
    return Outcome(table, failures, notes)


def run_job(job: Job) -> list[dict[str, Any]]:
    """Run the units of a job; those that failed, with the reason."""
    with warnings.catch_warnings():
        # Said when the units were counted.
        warnings.simplefilter("ignore", StgraphWarning)
        slices = job.study.load(job.grid.root)
    first = job.units[0]
    config = seeded(job.grid.models[first.model], first.seed)
    model: Any
    if hasattr(import_class(config[TARGET]), "learn") or unmixes(config):
        model = instantiate(config)
    else:
        model = Kept(lambda: instantiate(config), fingerprint(config), job.out / DESCRIPTIONS)
    failed = []
    for unit in job.units:
        try:
            _run_unit(job, unit, slices, model)
        except Exception as error:
            failed.append({**asdict(unit), "reason": reason_of(error)})
    return failed


def gather(out: Path, units: list[Unit], axes: Mapping[str, Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """The table of the units that are done.

    Parameters
    ----------
    out
        Folder of the benchmark.
    units
        Of which; others that stand in the folder are left out.
    axes
        Columns by model, as of a `stgraph.benchmark.grid.Grid`.

    Returns
    -------
    DataFrame
        One row for each number: what a task says, before it ``study, model, seed`` and the axes,
        after it what it took.
    """
    axes = axes or {}
    names = list(dict.fromkeys(name for columns in axes.values() for name in columns))
    tables = []
    for unit in units:
        if not _is_done(out, unit):
            continue
        content = read_document(_path(out, unit))
        rows = pd.DataFrame(content["rows"])
        rows.insert(0, "study", unit.study)
        rows.insert(1, "model", unit.model)
        rows.insert(2, "seed", unit.seed)
        for name in reversed(names):
            rows.insert(3, name, [axes.get(unit.model, {}).get(name)] * len(rows))
        # As the grid calls them: two tasks of one class, or two splits, must not be thrown together.
        rows["task"] = unit.task
        if unit.split:
            rows["split_name"], rows["split"] = rows["split"], unit.split
        if unit.shift:
            rows["shift"] = unit.shift
        tables.append(rows.assign(**content["cost"], key=unit.key))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return table.assign(**{name: _column(table[name]) for name in names if name in table})


def seeded(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A config with the seed, where its class takes one and has none yet.

    Parameters
    ----------
    config
        With ``_target_``; ``"${random_state}"`` anywhere in it is the seed too, as in the
        configs of `stgraph fit`.
    seed
        Of the run.

    Returns
    -------
    dict
        A copy.

    Examples
    --------
    >>> from stgraph.benchmark.run import seeded
    >>> seeded({"_target_": "stgraph.preprocess.encoder.LogPCA", "random_state": "${random_state}"}, 3)["random_state"]
    3
    """
    filled: dict[str, Any] = _filled(config, seed)
    takes = "random_state" in inspect.signature(import_class(str(config[TARGET]))).parameters
    return {"random_state": seed, **filled} if takes else filled


def _filled(config: Any, seed: int) -> Any:
    if isinstance(config, Mapping):
        return {key: _filled(value, seed) for key, value in config.items()}
    if isinstance(config, list):
        return [_filled(value, seed) for value in config]
    return seed if config == "${random_state}" else config


def _run_unit(job: Job, unit: Unit, slices: Mapping[str, AnnData], model: Any) -> None:
    task = instantiate(_filled(job.grid.tasks[unit.task], unit.seed))
    arguments: dict[str, Any] = {"random_state": unit.seed}
    if unit.split:
        arguments["split"] = instantiate(_filled(job.grid.split_config(job.study, unit.split), unit.seed))
    if unit.shift:
        arguments["shift"] = instantiate(_filled(job.grid.shifts[unit.shift], unit.seed))
    if isinstance(model, Kept):
        model.used.clear()
    with warnings.catch_warnings():
        # Of units and missing genes: said once when a user reads slices, not for each of a thousand runs.
        warnings.simplefilter("ignore", StgraphWarning)
        begin = perf_counter()
        result = task.run(slices, model, **arguments)
    cost: dict[str, float] = {"seconds": perf_counter() - begin}
    if isinstance(model, Kept):
        costs = list(model.used.values())
        fits = {(c.fit_seconds, c.n_fitted): c for c in costs}.values()
        cost |= {
            "fit_seconds": sum(c.fit_seconds for c in fits),
            "fit_cells": sum(c.n_fitted for c in fits),
            "fit_bytes": max((c.fit_bytes for c in fits), default=float("nan")),
            "transform_seconds": sum(c.transform_seconds for c in costs),
            "transform_cells": sum(c.n_described for c in costs),
            "num_parameters": max((c.num_parameters for c in costs), default=float("nan")),
        }
    _write_predictions(job.out / PREDICTIONS / f"{unit.key}.parquet", result, getattr(task, "key", None))
    rows = json.loads(result.table.to_json(orient="records", double_precision=15))
    if not rows:
        raise InputError("; ".join(result.notes) or "the task gave no number")
    content = {"unit": asdict(unit), "rows": rows, "cost": _plain(cost), "notes": result.notes}
    write_document(_path(job.out, unit), content)


def _write_predictions(path: Path, result: TaskResult, key: str | None) -> None:
    """What was said of each cell, for maps; only of classes."""
    tables = []
    for name, adata in result.adatas.items():
        column = _keys.PREDICTION.format(target=key)
        if key is None or column not in adata.obs:
            return
        pos = adata.obsm[_keys.SPATIAL]
        tables.append(
            pd.DataFrame(
                {
                    "slice": name,
                    "x": pos[:, 0],
                    "y": pos[:, 1],
                    "truth": adata.obs[key].astype(object).where(adata.obs[key].notna(), None).to_numpy(),
                    "predicted": adata.obs[column].astype(object).where(adata.obs[column].notna(), None).to_numpy(),
                }
            )
        )
    if tables:
        with atomic_path(path) as tmp:
            pd.concat(tables, ignore_index=True).to_parquet(tmp, index=False)


def _path(out: Path, unit: Unit) -> Path:
    return out / UNITS / f"{unit.key}.json"


def _is_done(out: Path, unit: Unit) -> bool:
    try:
        read_document(_path(out, unit))
    except StoreError:  # not there, or damaged: it runs again
        return False
    return True


def _column(values: pd.Series) -> pd.Series:
    """Numbers where all are, whole ones where those are; texts otherwise, for a column of a file has one type."""
    there = [value for value in values if not pd.isna(value)]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
        return pd.to_numeric(values).convert_dtypes()
    return pd.Series([None if pd.isna(value) else str(value) for value in values], index=values.index, dtype=object)


def _plain(cost: Mapping[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN."""
    return {name: None if np.isnan(value) else float(value) for name, value in cost.items()}


def reason_of(error: Exception) -> str:
    """One line on what went wrong: the sentence of an error of stgraph, the class and place of another.

    Examples
    --------
    >>> from stgraph.benchmark.run import reason_of
    >>> from stgraph.errors import InputError
    >>> reason_of(InputError("There are too few cells."))
    'There are too few cells.'
    """
    if isinstance(error, InputError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
