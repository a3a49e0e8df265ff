"""What a benchmark runs: task x study x model x split x shift x seed."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from anndata import AnnData

from stgraph._config import TARGET, import_class, instantiate
from stgraph._version import __version__
from stgraph.benchmark.choices import chosen
from stgraph.benchmark.study import GROUP, NICHE, NICHE_KEY, Study
from stgraph.data.documents import fingerprint
from stgraph.errors import InputError
from stgraph.tasks.deconvolution import Deconvolution
from stgraph.tasks.splits import LeaveOneSliceOut

KEYS = ("data", "studies", "tasks", "models", "splits", "shifts", "seeds")


@dataclass(frozen=True)
class Unit:
    """One number-giving run.

    Attributes
    ----------
    study, task, model, split, shift
        Names; ``split`` and ``shift`` are ``""`` where the task knows none.
    seed
        Of everything in it.
    key
        Hash of all that decides the result.
    """

    study: str
    task: str
    model: str
    split: str
    shift: str
    seed: int
    key: str


@dataclass(frozen=True)
class Grid:
    """Everything a benchmark runs.

    Parameters
    ----------
    studies
        What it runs on.
    tasks, models, splits, shifts
        Configs by name.
    seeds
        Each is a run of its own: of the model, the split and the intervals.
    root
        Folder of the studies' files.
    axes
        What the table says of a model beside its name, by model and column, as
        ``{"k=8": {"k": 8}}``; it decides no number.

    Examples
    --------
    >>> from stgraph.benchmark.grid import Grid
    >>> from stgraph.benchmark.study import GROUP, Study
    >>> grid = Grid.of([Study("a", ["a.h5ad"])], tasks=["region"], models=["pca"], splits=["blocks"])
    >>> sorted(grid.models)
    ['pca']
    """

    studies: Sequence[Study]
    tasks: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    splits: Mapping[str, Mapping[str, Any]]
    shifts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    root: Path = Path()
    axes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [study.name for study in self.studies]
        if not names or len(set(names)) < len(names):
            raise InputError(f"A benchmark needs studies with names of their own, not {names}.")
        if not self.tasks or not self.models or not self.seeds:
            raise InputError("A benchmark needs at least one task, one model and one seed.")
        if any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in self.seeds):
            raise InputError(f"Seeds are whole numbers, 0 or more, not {list(self.seeds)}.")
        for study in self.studies:
            if unknown := set(study.tasks or ()) - set(self.tasks):
                raise InputError(f"Study '{study.name}' asks for the tasks {sorted(unknown)}, which the grid lacks.")

    @classmethod
    def of(
        cls,
        studies: Sequence[Study],
        *,
        tasks: Sequence[str] | Mapping[str, Any],
        models: Sequence[str] | Mapping[str, Any],
        splits: Sequence[str] | Mapping[str, Any],
        shifts: Sequence[str] | Mapping[str, Any] = (),
        seeds: Sequence[int] = (0,),
        root: Path = Path(),
    ) -> Self:
        """A grid of parts by name; see `stgraph.benchmark.choices.chosen`."""
        return cls(
            studies=studies,
            tasks=chosen("task", tasks),
            models=chosen("model", models),
            splits=chosen("split", splits),
            shifts=chosen("shift", shifts),
            seeds=tuple(seeds),
            root=root,
        )

    @classmethod
    def read(cls, path: Path, **changes: Any) -> Self:
        """A grid from a YAML file.

        Parameters
        ----------
        path
            With the keys `KEYS`; ``data``, the folder of the files, is counted from the
            folder of the YAML file.
        **changes
            Keys with other content than the file's.

        Returns
        -------
        Grid
            Checked; files are not read yet.

        Raises
        ------
        InputError
            If the file is not such a grid.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"The grid '{path}' cannot be read: {' '.join(str(error).split())}.") from error
        if not isinstance(content, dict) or set(content) - set(KEYS):
            raise InputError(f"The grid '{path}' must be YAML with the keys {', '.join(KEYS)} and no others.")
        for kind, names in changes.items():
            own = content.get(kind)
            # A name that the grid explains is meant as it explains it.
            content[kind] = {name: own.get(name) for name in names} if isinstance(own, Mapping) else names
        studies = [_study(name, entry) for name, entry in dict(content.get("studies") or {}).items()]
        if "tasks" in changes:
            # A study runs those of its own tasks that are named now.
            narrowed = set(content["tasks"])
            studies = [
                study if study.tasks is None else replace(study, tasks=[n for n in study.tasks if n in narrowed])
                for study in studies
            ]
        return cls.of(
            studies,
            tasks=content.get("tasks") or (),
            models=content.get("models") or (),
            splits=content.get("splits") or (),
            shifts=content.get("shifts") or (),
            seeds=content.get("seeds") or (0,),
            root=path.parent / Path(content.get("data") or "."),
        )

    def units(self, study: Study, slices: Mapping[str, AnnData]) -> tuple[list[Unit], list[str]]:
        """What runs on a study, and what does not.

        A shift is put on whole judged slices, so it runs under splits by slice only.

        Parameters
        ----------
        study
            One of `studies`.
        slices
            Its slices.

        Returns
        -------
        units : list of Unit
            In an order in which descriptions can be used again.
        notes : list of str
            What was left out, and why.
        """
        hashes = study.hashes(self.root)
        units, notes = [], []
        for task_name, task_config in self.tasks.items():
            if study.tasks is not None and task_name not in study.tasks:
                continue
            if (reason := lacking(instantiate(task_config), slices)) is not None:
                notes.append(f"{study.name}: {task_name} does not run, {reason}")
                continue
            task = import_class(task_config[TARGET])
            ways, left_out = self._ways(task_config, study, slices)
            notes += [f"{study.name}: {task_name} {reason}" for reason in left_out]
            for split, shift in ways:
                way = [self.split_config(study, split), self.shifts.get(shift)]
                # Which tasks it is for does not change what one of them gives.
                what = [task_config, *way, {**study.config(), "tasks": None}, hashes, __version__]
                units += [
                    Unit(study.name, task_name, model, split, shift, seed, fingerprint([*what, model_config, seed]))
                    for model, model_config in self.models.items()
                    if not unmixes(model_config) or issubclass(task, Deconvolution)
                    for seed in self.seeds
                ]
        return units, notes

    def split_config(self, study: Study, split: str) -> Mapping[str, Any] | None:
        """Config of a split on a study: slices of one donor are left out together where the study knows donors."""
        config = self.splits.get(split)
        if config is None or study.group is None or not issubclass(import_class(config[TARGET]), LeaveOneSliceOut):
            return config
        return {**config, "group_key": config.get("group_key") or GROUP}

    def _ways(
        self, task_config: Mapping[str, Any], study: Study, slices: Mapping[str, AnnData]
    ) -> tuple[list[tuple[str, str]], list[str]]:
        """Names of the splits and shifts a task runs under, and why not under others."""
        task: Any = import_class(task_config[TARGET])
        takes = inspect.signature(task.run).parameters
        if "split" not in takes:
            return [("", "")], []
        ways, left_out = [], []
        for name in self.splits:
            config = self.split_config(study, name)
            assert config is not None
            whole_slices = issubclass(import_class(config[TARGET]), LeaveOneSliceOut)
            if whole_slices and (why := _not_apart(config, slices)):
                left_out.append(f"does not run with split '{name}', {why}")
                continue
            ways.append((name, ""))
            if not whole_slices or "shift" not in takes:
                continue
            for shift, shift_config in self.shifts.items():
                if _fits(shift_config, slices):
                    ways.append((name, shift))
                else:
                    left_out.append(f"does not run with shift '{shift}', which would leave its slices as they are")
        return ways, left_out


def lacking(task: Any, slices: Mapping[str, AnnData]) -> str | None:
    """Why a task cannot run on slices; None if it can.

    Parameters
    ----------
    task
        A task; one with a ``key`` needs that column of labels.
    slices
        By name.

    Returns
    -------
    str or None
        The reason.
    """
    key = getattr(task, "key", None)
    if key is None:
        return None
    columns = [adata.obs[key].dropna() for adata in slices.values() if key in adata.obs]
    if not columns or len(np.unique(np.concatenate([column.astype(str) for column in columns]))) < 2:
        name = NICHE if key == NICHE_KEY else key
        return f"for its slices have no labels '{key}': name their column as in labels: {{{name}: COLUMN}}"
    return None


def _not_apart(config: Mapping[str, Any], slices: Mapping[str, AnnData]) -> str | None:
    """Why slices cannot be left out; None if they can."""
    key = config.get("group_key")
    if key is None:
        return None if len(slices) > 1 else "for it has one slice"
    if any(key not in adata.obs for adata in slices.values()):
        return "for the study does not say the group (donor, animal) of its slices"
    groups = {str(adata.obs[key].iloc[0]) for adata in slices.values()}
    return None if len(groups) > 1 else "for all its slices are of one group"


def _fits(config: Mapping[str, Any], slices: Mapping[str, AnnData]) -> bool:
    """Whether a shift would change anything: a panel of 300 genes is no shift for one of 135."""
    n_genes = getattr(instantiate(config), "n_genes", 0)
    return all(adata.n_vars > n_genes for adata in slices.values())


def unmixes(config: Mapping[str, Any]) -> bool:
    """Whether a model finds the composition of spots from signatures, and can do nothing else."""
    return hasattr(import_class(str(config[TARGET])), "proportions")


def _study(name: str, entry: Any) -> Study:
    if not isinstance(entry, Mapping):
        raise InputError(f"Study '{name}' must say its files and labels, not {entry!r}.")
    study = instantiate({TARGET: "stgraph.benchmark.study.Study", "name": name, **entry})
    assert isinstance(study, Study)
    return study
