"""Sweeps over models that describe cells: each point is a model of a benchmark, its axes columns of the table."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stgraph._config import TARGET, instantiate
from stgraph._files import atomic_path
from stgraph.benchmark.choices import chosen
from stgraph.benchmark.grid import Grid, Unit
from stgraph.benchmark.run import FAILURES, Outcome, reason_of, run_benchmark, seeded
from stgraph.benchmark.study import Study
from stgraph.cli.compose import compose_config
from stgraph.cli.executor import executor_of
from stgraph.cli.sweep import SWEEP, Point, Sweep
from stgraph.cli.train_run import SWEEP_MARK, check_out, slice_files, units_by_name
from stgraph.data.documents import fingerprint
from stgraph.data.jobs import Progress
from stgraph.errors import InputError

METHOD, SEED = "method", "random_state"
"""The setting that describes cells, and the one that a benchmark repeats over."""

STEPS = "max_steps"
"""Column of the table that says how long a point trains."""

_READ = ("method", "data", "tasks", "splits", "shifts", "beside", "draw", "out", "executor")

_TAKEN = frozenset(
    {"study", "model", "seed", "task", "target", "split", "shift", "slice", "metric", "value", "low", STEPS}
)
"""Columns of a benchmark, which an axis of the same name must not hide."""


@dataclass(frozen=True)
class Judged:
    """A sweep that is ready to run.

    Attributes
    ----------
    grid
        Points as models, with their axes.
    axes
        Columns of the table, one for each axis but the seed.
    failed
        Reason by name, of points that cannot be built.
    settings
        Those of the first point; data, tasks and splits are of all.
    points
        Names of the points: the other models of the grid are beside them.
    """

    grid: Grid
    axes: tuple[str, ...]
    failed: Mapping[str, str]
    settings: Mapping[str, Any]
    points: tuple[str, ...]


def read_judged(sweep: Sweep) -> Judged:
    """Compose and build the points of a sweep.

    Parameters
    ----------
    sweep
        Of an experiment with a ``method``.

    Returns
    -------
    Judged
        Points that differ in settings their method does not read are one.

    Raises
    ------
    InputError
        If no point can be built, if an axis or a setting changes nothing, or if the data cannot be used.
    """
    own = [text for text in sweep.fixed if text.startswith(f"{SEED}=")]
    axis = sweep.axis(SEED)
    seeds = axis.values if axis is not None else [yaml.safe_load(text.partition("=")[2]) for text in own] or (0,)
    fixed = [text for text in sweep.fixed if text not in own]
    fixed.append(f"{SEED}='\\${{{SEED}}}'")  # a benchmark puts each seed where it finds this
    composed: list[tuple[Point, dict[str, Any]]] = []
    failed: dict[str, str] = {}
    for point in sweep.points(apart=[SEED]):
        try:
            config = compose_config("train", [*fixed, *point.settings], option="")
            config[METHOD] = _method(config)
            _build(config[METHOD])
            composed.append((point, config))
        except InputError as error:
            failed[point.name] = reason_of(error)
    if not composed:
        raise InputError(next(iter(failed.values())))
    first = composed[0][1]
    _check_alike(composed)
    _check_read(sweep, fixed, composed)
    points = _distinct(sweep, composed)
    columns = {axis.key: f"{axis.key}_setting" if axis.key in _TAKEN else axis.key for axis in sweep.axes}
    named = {point.name: {columns[key]: point.axes.get(key) for key in columns if key != SEED} for point, _ in points}
    models = {point.name: config[METHOD] for point, config in points}
    steps = {name: _steps(method) for name, method in models.items()}
    if any(number is not None for number in steps.values()):
        named = {name: {**values, STEPS: steps[name]} for name, values in named.items()}
    beside = chosen("model", _named(first.get("beside")))
    if METHOD in columns:  # what is beside the points has no axes, but is a method too
        named |= {name: {columns[METHOD]: name} for name in beside if name not in named}
    study, root = _study(first)
    grid = Grid(
        studies=[study],
        tasks=chosen("task", _named(first.get("tasks"))),
        models=models | beside,
        splits=chosen("split", _named(first.get("splits"))),
        shifts=chosen("shift", _named(first.get("shifts"))),
        seeds=tuple(seeds),
        root=root,
        axes=named,
    )
    axes = tuple(columns[axis.key] for axis in sweep.axes if axis.key != SEED)
    for what, name in (first.get("draw") or {}).items():
        if what not in ("against", "size") or name not in (None, *axes):
            raise InputError(f"draw.{what}={name} names no axis of this sweep; there are: {', '.join(axes)}.")
    return Judged(grid, axes, failed, first, tuple(models))


def check_judged(judged: Judged) -> None:
    """Refuse a sweep that could not run, before anything is written.

    Raises
    ------
    InputError
        If the slices or the folder cannot be used, or nothing can be judged on these slices.
    """
    grid = judged.grid
    [study] = grid.studies
    check_out(Path(judged.settings["out"]), [grid.root / file for file in study.files], mark=SWEEP_MARK)
    _check_judges(grid, study)


def run_judged(judged: Judged, *, workers: int = 1, progress: Progress | None = None) -> Outcome:
    """Run what is not there yet.

    Parameters
    ----------
    judged
        From `read_judged`, and `check_judged`.
    workers
        Processes, where the settings name no executor.
    progress
        Told of the units done.

    Returns
    -------
    Outcome
        As of a benchmark; points that could not be built are among its failures.

    Raises
    ------
    InputError
        If the slices or the folder cannot be used.
    """
    out = Path(judged.settings["out"])
    grid = judged.grid
    [study] = grid.studies
    with executor_of(judged.settings.get("executor"), workers) as executor:
        with atomic_path(out / SWEEP_MARK) as tmp:
            tmp.write_text(yaml.safe_dump(_plan(judged), sort_keys=False), encoding="utf-8")
        outcome = run_benchmark(grid, out, executor=executor, progress=progress)
    if not judged.failed:
        return outcome
    empty = dict.fromkeys(Unit.__dataclass_fields__, "")
    lost = [{**empty, "study": study.name, "model": name, "reason": why} for name, why in judged.failed.items()]
    failures = pd.concat([outcome.failures.astype(object), pd.DataFrame(lost)], ignore_index=True)
    with atomic_path(out / FAILURES) as tmp:
        failures.to_csv(tmp, index=False)
    return replace(outcome, failures=failures)


def _build(method: Mapping[str, Any]) -> None:
    """Build a method, and those of its settings that it would build only when it is fitted."""
    config = seeded(method, 0)
    instantiate(config)
    for name, setting in (config.get("settings") or {}).items():
        if name != "model" and isinstance(setting, Mapping) and TARGET in setting:  # a model needs in_channels
            instantiate(setting)


def _steps(method: Mapping[str, Any]) -> int | None:
    """How many steps a method trains; None for one that does not."""
    trainer = method.get("trainer") or (method.get("settings") or {}).get("trainer")
    steps = trainer.get("max_steps") if isinstance(trainer, Mapping) else None
    return steps if isinstance(steps, int) else None


def _method(config: Mapping[str, Any]) -> dict[str, Any]:
    method = config.get(METHOD)
    if not isinstance(method, Mapping) or TARGET not in method:
        raise InputError(f"{METHOD} must be a config with {TARGET}, not {method!r}.")
    settings = method.get("settings")
    if not isinstance(settings, Mapping):
        return dict(method)
    # The group choice "none" is an empty file.
    return {**method, "settings": {key: None if value == {} else value for key, value in settings.items()}}


def _named(given: Any) -> dict[str, Any]:
    """Configs by name, None where the name says it: of ``[a, {b: config}]`` or ``{a: null, b: config}``."""
    found: dict[str, Any] = {}
    for each in [given] if isinstance(given, Mapping | str) else given or ():
        found |= dict(each) if isinstance(each, Mapping) else {str(each): None}
    return found


def _check_alike(composed: list[tuple[Point, dict[str, Any]]]) -> None:
    """A sweep varies models: tasks and data that differed would make points that cannot be compared."""
    first = composed[0][1]
    for point, config in composed[1:]:
        for part in _READ[1:]:
            if config.get(part) != first.get(part):
                raise InputError(f"A sweep varies the model only, but {point.name} has another '{part}'.")


def _check_read(sweep: Sweep, fixed: list[str], composed: list[tuple[Point, dict[str, Any]]]) -> None:
    """Refuse a setting that changes the settings, but nothing that any point reads."""
    for text in sweep.fixed:
        if text.split("=")[0].lstrip("+~").partition(".")[0] in ("experiment", SWEEP, SEED, *_READ):
            continue
        others = [each for each in fixed if each != text]
        if not any(_matters(others, point, config) for point, config in composed):
            raise InputError(f"'{text}' changes nothing here, for nothing reads it in this sweep.")


def _matters(others: list[str], point: Point, config: Mapping[str, Any]) -> bool:
    """Whether a point is another without a setting, or the setting is what it would be anyway."""
    try:
        without = compose_config("train", [*others, *point.settings], option="")
        without[METHOD] = _method(without)
    except InputError:  # others need it
        return True
    return without == config or any(without.get(part) != config.get(part) for part in _READ)


def _distinct(sweep: Sweep, composed: list[tuple[Point, dict[str, Any]]]) -> list[tuple[Point, dict[str, Any]]]:
    """Points with models of their own: an axis that a method does not read is no axis of its points."""
    alike: dict[str, list[tuple[Point, dict[str, Any]]]] = {}
    for point, config in composed:
        alike.setdefault(fingerprint(config[METHOD]), []).append((point, config))
    points = []
    for group in alike.values():
        (first, config), others = group[0], group[1:]
        axes = {k: v for k, v in first.axes.items() if all(other.axes[k] == v for other, _ in others)}
        name = ",".join(f"{key}={value}" for key, value in axes.items()) or first.name
        points.append((replace(first, name=name, axes=axes), config))
    for axis in sweep.axes:
        if axis.key != SEED and len(axis.values) > 1 and not any(axis.key in point.axes for point, _ in points):
            raise InputError(f"'{axis.key}' is varied, but changes nothing, for nothing reads it in this sweep.")
    return points


def _study(config: Mapping[str, Any]) -> tuple[Study, Path]:
    """What is read; files are counted from their common folder, so that a command given elsewhere finds its results."""
    data = config["data"]
    if data.get("files") in (None, "???", []):
        raise InputError("Say which slices to train and judge on: data.files=[a.h5ad,b.h5ad].")
    if config.get("out") in (None, "???"):
        raise InputError("Say where the results go: out=DIR.")
    files = [file.absolute() for file in slice_files(data["files"])]
    root = Path(os.path.commonpath([file.parent for file in files]))
    study = Study(
        name=files[0].stem if len(files) == 1 else root.name or "slices",
        files=[file.relative_to(root).as_posix() for file in files],
        labels=data.get("labels") or {},
        missing=data.get("missing") or {},
        group=data.get("group"),
        slice_key=data["slice_key"],
        keep=data["keep"],
        um_per_unit=units_by_name(data["um_per_unit"], files) or None,
        layer=data["layer"],
    )
    return study, root


def _check_judges(grid: Grid, study: Study) -> None:
    units, notes = grid.units(study, study.load(grid.root))
    if not units:
        raise InputError(
            f"Nothing can be judged on these slices ({'; '.join(notes) or 'there is no task'}): say which column of "
            "obs holds which labels, as in 'data.labels={domain: layer}', or choose other tasks=[...] and splits=[...]."
        )


def _plan(judged: Judged) -> dict[str, Any]:
    points = {name: dict(judged.grid.axes[name]) for name in judged.points}
    shared = {key: value for key, value in judged.settings.items() if key not in (METHOD, SWEEP)}
    plan: dict[str, Any] = json.loads(json.dumps({"points": points, "seeds": judged.grid.seeds, "settings": shared}))
    return plan
