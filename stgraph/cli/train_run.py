"""What ``stgraph train`` does with its settings: files in, a folder out."""

import glob
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from anndata import AnnData
from rich.console import Console

from stgraph._config import config_dir
from stgraph._files import atomic_path
from stgraph.cli.long_jobs import number
from stgraph.cli.run import read_slices
from stgraph.cli.sweep import SWEEP
from stgraph.cli.train_progress import stage_progress
from stgraph.data.lock import LOCK, locked
from stgraph.errors import InputError
from stgraph.io.write import write_h5ad
from stgraph.tasks.pretrain import PretrainResult, pretrain
from stgraph.training.checkpoint import CONFIG, unmark
from stgraph.training.distributed import first_process

SETTINGS = "settings.yaml"
"""The settings of a run, in its folder: what makes a folder one of ours."""

SWEEP_MARK = "sweep.yaml"
"""What a sweep ran, in its folder: what makes that folder one of ours."""

_KINDS = {SETTINGS: "one run of stgraph train", SWEEP_MARK: "a sweep of stgraph train (-m)"}

_PARTS = ("encoder", "graph", "partition", "model", "stages")
"""Settings a run cannot do without."""

_KNOWN = {
    *("out", "data", "virtual_cells", "objective", "trainer", "domains", "num_hops", "random_state", "redo"),
    *("executor", SWEEP),
    *_PARTS,
}
_DATA = {"files", "um_per_unit", "slice_key", "layer", "keep"}


def run_train(config: Mapping[str, Any], *, console: Console | None = None) -> Path:
    """Train as the settings say, or go on.

    It depends on nothing but the settings, so that a sweep can call it with many.

    Parameters
    ----------
    config
        ``configs/train.yaml``, composed and resolved.
    console
        Where to say what happens; standard error by default.

    Returns
    -------
    Path
        The folder, with the model and the slices.

    Raises
    ------
    InputError
        If a setting is missing or cannot be used.
    """
    console = console or Console(stderr=True, quiet=not first_process())
    _check(config)
    out = Path(str(config["out"]))
    files = slice_files(config["data"]["files"])
    check_out(out, files)
    data = config["data"]
    slices = read_slices(
        files,
        units_by_name(data["um_per_unit"], files),
        slice_key=data["slice_key"],
        layer=data["layer"],
        keep=data["keep"],
    )
    _check_writable(slices)
    out.mkdir(parents=True, exist_ok=True)
    alone: AbstractContextManager[None] = locked(out) if first_process() else nullcontext()
    with alone:
        if first_process() and not (out / SETTINGS).is_file():
            _write_settings(out, config)
        cells = sum(adata.n_obs for adata in slices)
        _say(console, f"{number(len(files), 'file')}, {cells:,} cells; results go to {out}")
        with stage_progress(console) as watch:
            result = pretrain(
                slices,
                out,
                encoder=config["encoder"],
                builder=config["graph"],
                virtual_cells=config.get("virtual_cells") or None,  # none.yaml is empty
                partitioner=config["partition"],
                model=config["model"],
                stages=config["stages"],
                num_hops=config["num_hops"],
                domains=config.get("domains") or None,
                random_state=config["random_state"],
                redo=config["redo"],
                watch=watch,
            )
        if first_process() and not _is_there(result, out, config, files):
            _write(result, out, config)
    _say(console, f"{out}: a model directory, and {', '.join(f'{name}.h5ad' for name in result.adatas)}")
    return out


def _check_writable(slices: Sequence[AnnData]) -> None:
    """Write all but the large arrays of each slice, and throw it away: better refused now than after hours."""
    for adata in slices:
        small = AnnData(obs=adata.obs, var=adata.var, uns=adata.uns, shape=adata.shape)
        try:
            with TemporaryDirectory() as folder:
                write_h5ad(small, Path(folder, "trial.h5ad"))
        except OSError:
            raise
        except Exception as error:  # AnnData has several, one of no public class
            said = " ".join(" ".join([str(error), *getattr(error, "__notes__", [])]).split())
            name = adata.obs["slice_id"].iloc[0] if "slice_id" in adata.obs else "a slice"
            raise InputError(
                f"{name}: what the slice holds beside its counts cannot be written to an h5ad file "
                f"({said}): remove or convert it."
            ) from error


def _is_there(result: PretrainResult, out: Path, config: Mapping[str, Any], files: Sequence[Path]) -> bool:
    """Whether an earlier run of the same command wrote all of this, from the files as they are now."""
    mark = out / CONFIG
    if any(stage.how != "kept" for stage in result.stages) or not mark.is_file():
        return False
    if (out / SETTINGS).read_text(encoding="utf-8") != _settings(config):
        return False
    newest = max(file.stat().st_mtime_ns for file in files)
    return newest < mark.stat().st_mtime_ns and all((out / f"{name}.h5ad").is_file() for name in result.adatas)


def _write(result: PretrainResult, out: Path, config: Mapping[str, Any]) -> None:
    # A folder with a config.json is a complete model, of which all slices are.
    unmark(out)
    for name, adata in result.adatas.items():
        write_h5ad(adata, out / f"{name}.h5ad")
    _write_settings(out, config)
    result.pretrained.save(out)


def _write_settings(out: Path, config: Mapping[str, Any]) -> None:
    with atomic_path(out / SETTINGS) as tmp:
        tmp.write_text(_settings(config), encoding="utf-8")


def _settings(config: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False)
    return text


def _check(config: Mapping[str, Any]) -> None:
    if "method" in config:
        raise InputError("This experiment is a sweep, of models that are judged: run it with -m.")
    if unknown := sorted(set(config) - _KNOWN):
        raise InputError(f"The settings hold {', '.join(unknown)}, which nothing reads.")
    data = config.get("data") or {}
    if unknown := sorted(set(data) - _DATA):
        raise InputError(f"The settings of data hold {', '.join(unknown)}, which nothing reads.")
    published = (config.get("encoder") or {}).get("weights") is not None
    if not any((config.get("stages") or {}).values()) and not published:
        choices = " or ".join(f"experiment={name}" for name in experiments())
        raise InputError(
            f"There is nothing to train, for no stage is set: choose {choices}; or give published weights, which need "
            "no training, with encoder=aido_tissue encoder.weights=FILE encoder.gene_list=TABLE."
        )
    if data.get("files") in (None, "???", []):
        raise InputError("Say which slices to train on: data.files=[a.h5ad,b.h5ad].")
    if config.get("out") in (None, "???"):
        raise InputError("Say where the results go: out=DIR.")
    if missing := [name for name in _PARTS if not config.get(name)]:
        raise InputError(f"The settings lack {', '.join(missing)}: choose one of configs/ instead of none.")
    if config.get("executor") is not None:
        raise InputError("executor= is what runs the points of a sweep: add -m, or leave it out.")
    if not isinstance(config["redo"], bool):
        raise InputError(f"redo must be true or false, not {config['redo']!r}.")


def experiments() -> list[str]:
    """Names of the recipes that train in stages; others are sweeps by themselves."""
    files = sorted((config_dir() / "experiment").glob("*.yaml"))
    return [path.stem for path in files if SWEEP not in yaml.safe_load(path.read_text(encoding="utf-8"))]


def slice_files(given: Any) -> list[Path]:
    """Files that are named, or match a pattern, each once and in the order they are given."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InputError(f"data.files takes names of files, as in data.files=[a.h5ad,b.h5ad], not {given!r}.")
    files: list[Path] = []
    for name in names:
        found = [name]
        if glob.has_magic(name) and not Path(name).exists():
            found = sorted(glob.glob(name))  # noqa: PTH207  a Path has no root-relative patterns
            if not found:
                raise InputError(f"data.files: no file matches '{name}'.")
        files += [Path(path) for path in found if Path(path) not in files]
    return files


def units_by_name(given: Any, files: Sequence[Path]) -> dict[str, float]:
    """Microns per unit of each file, by its name without suffix; empty where they are not given."""
    if given is None:
        return {}
    names = [file.stem for file in files]
    by_name = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    for name, um in by_name.items():
        if name not in names:
            raise InputError(f"data.um_per_unit: no slice file is called '{name}'; there are: {', '.join(names)}.")
        if isinstance(um, bool) or not isinstance(um, int | float):
            raise InputError(f"data.um_per_unit takes a number, or {{NAME: number}}, not {um!r}.")
    return {name: float(um) for name, um in by_name.items()}


def check_out(out: Path, files: Sequence[Path], *, mark: str = SETTINGS) -> None:
    """Refuse a folder for results that holds something else.

    Parameters
    ----------
    out
        The folder; it may be new.
    files
        Slices, which results must not replace.
    mark
        Name of the file that makes a folder one of ours.

    Raises
    ------
    InputError
        If results must not go there.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"'{out}' is a file, but the results go to a folder: choose another out=.")
    ours = (out / mark).is_file()
    if out.is_dir() and not ours and any(path.name != LOCK for path in out.iterdir()):
        there = next((what for name, what in _KINDS.items() if (out / name).is_file()), "something else")
        raise InputError(
            f"'{out}' holds {there}, and the results of {_KINDS[mark]} do not go there: "
            "choose another out=, or empty it."
        )
    for file in files:
        if file.resolve().parent == out.resolve():
            raise InputError(f"'{file}' lies in '{out}', where results would replace it: choose another out=.")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
