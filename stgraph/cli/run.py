"""What the verbs do, with files and a terminal around it."""

import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch_geometric
import yaml
from anndata import AnnData
from rich.console import Console

import stgraph
from stgraph import _keys
from stgraph._files import atomic_dir, atomic_path, check_out_dir, check_out_file
from stgraph.cli.compose import compose_config
from stgraph.errors import InputError
from stgraph.graph.summary import degrees, summarize
from stgraph.io.read import read
from stgraph.io.slices import check_apart, split_slices
from stgraph.io.write import write_h5ad
from stgraph.plot.report import Report, SliceView, write_report
from stgraph.tasks.embed import embed
from stgraph.tasks.fit import FitResult, fit
from stgraph.tasks.pretrained import from_pretrained
from stgraph.tasks.scoring import annotation, score_domains
from stgraph.training.tracking import json_lines

CONSOLE = Console(stderr=True)


@dataclass(frozen=True)
class RunOptions:
    """What a run of `fit` is told, beside its slices.

    Attributes
    ----------
    out
        Folder to make.
    score_against
        Column of ``obs`` with annotated domains, or None.
    overrides
        Changes of the config.
    overwrite
        Whether ``out`` may be replaced.
    command
        The command line, for the report.
    inputs
        Files that must outlive the replacing of ``out``.
    """

    out: Path
    score_against: str | None
    overrides: list[str]
    overwrite: bool
    command: str
    inputs: Sequence[Path] = ()


def read_slices(
    files: Sequence[Path],
    units: Mapping[str, float],
    *,
    slice_key: str | None,
    layer: str | None,
    keep: str | None,
) -> list[AnnData]:
    """Read files one after the other; see `stgraph.read`. Refuses slices of one name, for files are known here."""
    slices = [
        read(file, um_per_unit=units.get(file.stem), slice_key=slice_key, layer=layer, keep=keep) for file in files
    ]
    check_apart(slices, files)
    return slices


def run_fit(load: Callable[[], list[AnnData]], options: RunOptions, notes: list[str]) -> None:
    """The main job, from files to a folder that appears only when it is complete.

    Parameters
    ----------
    load
        Gives the slices.
    options
        What the run is told.
    notes
        What was said aloud so far; grows during the run, and is shown in the report.
    """
    check_out_dir(options.out, overwrite=options.overwrite)
    if options.out.is_dir() and any(options.out.iterdir()) and not (options.out / "config.json").is_file():
        raise InputError(f"'{options.out}' holds no results of stgraph to replace: choose another --out, or empty it.")
    for file in options.inputs:
        if options.overwrite and file.resolve().is_relative_to(options.out.resolve()):
            raise InputError(f"'{file}' lies in '{options.out}', which would be replaced: choose another --out.")
    arguments = _arguments(compose_config("fit", options.overrides))
    clock = _Clock()
    named = split_slices(load())
    if options.score_against is not None:
        for name, adata in named.items():
            annotation(adata, options.score_against, name)
    clock.lap("read")
    _say(_headline(named))
    with atomic_dir(options.out, overwrite=options.overwrite) as folder:
        with json_lines(folder / "metrics.jsonl") as log:
            _check_writable(named)
            result = fit(list(named.values()), **arguments, on_step=log)
        clock.lap("fit")
        scores = pd.DataFrame()
        if options.score_against is not None:
            with CONSOLE.status("scoring against the annotation"):
                scores = score_domains(
                    result.adatas,
                    options.score_against,
                    result.pretrained.domains,  # type: ignore[arg-type]
                    random_state=arguments["random_state"],
                )
            with atomic_path(folder / "scores.csv") as tmp:
                scores.to_csv(tmp, index=False)
            clock.lap("score")
        with CONSOLE.status("writing slices and report"):
            result.pretrained.save(folder)
            with atomic_path(folder / "config.yaml") as tmp:
                tmp.write_text(yaml.safe_dump(result.settings, sort_keys=False), encoding="utf-8")
            for name, adata in result.adatas.items():
                write_h5ad(adata, folder / f"{name}.h5ad")
            clock.lap("write")
            timings = clock.laps | result.timings
            timings.pop("fit")
            write_report(_report(result, options, scores, timings, notes), folder / "report.html")
    _say_what_was_made(result, scores, options)


def run_embed(
    slice_file: Path,
    model: str,
    out: Path,
    *,
    revision: str | None,
    um_per_unit: float | None,
    slice_key: str | None,
    layer: str | None,
    keep: str | None,
    trust: Sequence[str],
    overwrite: bool,
) -> None:
    """Apply a model directory, or a model of the hub, to a file; see `stgraph.embed`."""
    if out.suffix != ".h5ad":
        raise InputError(f"--out '{out}' must end in .h5ad.")
    check_out_file(out, overwrite=overwrite)
    pretrained = from_pretrained(model, revision=revision, trust=trust)
    adata = read(slice_file, um_per_unit=um_per_unit, slice_key=slice_key, layer=layer, keep=keep)
    with CONSOLE.status(f"embedding {adata.n_obs:,} cells"):
        embedded = embed(adata, pretrained)
    write_h5ad(embedded, out)
    told = f"{out}: obsm['{_keys.EMBEDDING}'] {embedded.obsm[_keys.EMBEDDING].shape}"
    if _keys.DOMAIN in embedded.obs:
        told += f", obs['{_keys.DOMAIN}'] in {embedded.obs[_keys.DOMAIN].nunique()} domains"
    _say(told)


def _check_writable(named: Mapping[str, AnnData]) -> None:
    """Find now, on one cell of each slice, what HDF5 could not hold after the training."""
    with tempfile.TemporaryDirectory() as folder:
        for name, adata in named.items():
            try:
                adata[:1].copy().write_h5ad(Path(folder) / "one.h5ad")
            except (ValueError, TypeError, NotImplementedError) as error:
                reason = " ".join(str(error).split())
                raise InputError(f"{name}: it holds something that cannot be written to h5ad: {reason}") from error


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Config groups by the names that `stgraph.fit` gives its parts."""
    needed = {"encoder", "graph", "partition", "num_hops", "model", "objective", "trainer", "domains", "random_state"}
    if missing := sorted(name for name in needed if config.get(name) in (None, {})):
        raise InputError(f"The settings lack {', '.join(missing)}: choose one of configs/ instead of none.")
    if unknown := sorted(set(config) - needed - {"virtual_cells"}):
        raise InputError(f"The settings hold {', '.join(unknown)}, which nothing reads.")
    return {
        "encoder": config["encoder"],
        "builder": config["graph"],
        # An empty group file means none.
        "virtual_cells": config.get("virtual_cells") or None,
        "partitioner": config["partition"],
        "num_hops": config["num_hops"],
        "model": config["model"],
        "objectives": list(config["objective"].values()),
        "trainer": config["trainer"],
        "domains": config["domains"],
        "random_state": config["random_state"],
    }


def _report(
    result: FitResult,
    options: RunOptions,
    scores: pd.DataFrame,
    timings: Mapping[str, float],
    notes: Sequence[str],
) -> Report:
    views = []
    for name, adata in result.adatas.items():
        graph = result.graphs[name]
        views.append(
            SliceView(
                name=name,
                pos=graph.pos,
                unit=graph.unit,
                domains=adata.obs[_keys.DOMAIN].astype(str).to_numpy(),
                labels=None if options.score_against is None else annotation(adata, options.score_against, name),
                graph=summarize(graph),
                edge_lengths=graph.near.data,
                degrees=degrees(graph),
            )
        )
    device = "GPU" if torch.cuda.is_available() and result.settings["trainer"]["accelerator"] != "cpu" else "CPU"
    return Report(
        title=f"stgraph: {', '.join(result.adatas)}",
        command=options.command,
        slices=views,
        embedding=np.concatenate([adata.obsm[_keys.EMBEDDING] for adata in result.adatas.values()]),
        history=result.history,
        scores=[{str(key): value for key, value in row.items()} for row in scores.to_dict("records")],
        timings=timings,
        settings=result.settings,
        notes=list(notes),
        environment={
            "stgraph": stgraph.__version__,
            "torch": torch.__version__,
            "torch-geometric": torch_geometric.__version__,
            "python": platform.python_version(),
            "device": device,
            "threads": str(torch.get_num_threads()),
            "seed": str(result.settings["random_state"]),
            "genes": str(len(result.pretrained.encoder.genes)),
        },
        random_state=int(result.settings["random_state"]),
    )


def _headline(named: Mapping[str, AnnData]) -> str:
    cells = sum(adata.n_obs for adata in named.values())
    units = {str(adata.uns[_keys.STGRAPH][_keys.UNIT]) for adata in named.values()}
    slices = "1 slice" if len(named) == 1 else f"{len(named)} slices"
    return f"{slices}, {cells:,} cells, unit {', '.join(sorted(units))}: {', '.join(named)}"


def _say_what_was_made(result: FitResult, scores: pd.DataFrame, options: RunOptions) -> None:
    if len(scores):
        table = scores.pivot_table(index="method", columns="slice", values="ari", sort=False)
        table["mean"] = table.mean(axis=1)
        _say(f"adjusted Rand index against obs['{options.score_against}']\n{table.round(3).to_string()}")
    _say(
        f"trained {len(result.history)} steps in {result.timings['train']:.0f} s; "
        f"results in {options.out}: open {options.out / 'report.html'}"
    )


def _say(text: str) -> None:
    # Paths stay whole, to be copied; brackets in names are no markup.
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


class _Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.laps[name] = now - self._last
        self._last = now
