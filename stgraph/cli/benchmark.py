"""The verb that runs tasks on studies."""

from pathlib import Path
from typing import Annotated

import typer

from stgraph.cli.corpus import Workers
from stgraph.cli.long_jobs import counted, number, resumable
from stgraph.cli.notes import spoken
from stgraph.cli.options import Keep, SliceKey
from stgraph.errors import InputError

Names = list[str] | None

Data = Annotated[
    Path,
    typer.Option(
        help="A grid (YAML: studies, and what runs on them), or an h5ad file, or a folder of h5ad files that are one "
        "study.",
        show_default=False,
    ),
]


def benchmark(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the results; one that is there is gone on with.")],
    models: Annotated[Names, typer.Option("--models", help="Models by name. May be repeated, or a,b,c.")] = None,
    tasks: Annotated[Names, typer.Option("--tasks", help="Tasks by name, likewise.")] = None,
    splits: Annotated[Names, typer.Option("--splits", help="Splits by name, likewise.")] = None,
    shifts: Annotated[Names, typer.Option("--shifts", help="Shifts of judged slices, likewise.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds, from 0 on.", show_default=False)] = None,
    label: Annotated[
        Names, typer.Option("--label", metavar="NAME=COLUMN", help="Column of obs with the labels NAME.")
    ] = None,
    ours: Annotated[
        str | None, typer.Option(help="Model that is set against the best simple one.", show_default=False)
    ] = None,
    slice_key: SliceKey = None,
    keep: Keep = None,
    workers: Workers = 1,
) -> None:
    """Run tasks on slices with models, under splits that do not leak; write one table and pictures."""
    from stgraph.benchmark.grid import Grid  # noqa: PLC0415  torch is slow to import
    from stgraph.benchmark.report import write_report  # noqa: PLC0415
    from stgraph.benchmark.run import run_benchmark  # noqa: PLC0415
    from stgraph.benchmark.study import Study  # noqa: PLC0415
    from stgraph.data.jobs import processes  # noqa: PLC0415

    asked = {"models": models, "tasks": tasks, "splits": splits, "shifts": shifts}
    changes = {name: _split(given) for name, given in asked.items() if given}
    with spoken(), resumable(out), counted({"benchmark": "benchmark"}) as progress:
        if data.suffix in (".yaml", ".yml"):
            if label or slice_key or keep:
                raise InputError("--label, --slice-key and --keep belong to the studies of the grid: write them there.")
            grid = Grid.read(data, **changes, **({"seeds": list(range(seeds))} if seeds else {}))
        else:
            study = Study(
                name=data.stem,
                files=_files(data),
                labels=_labels(label),
                slice_key=slice_key,
                keep=keep,
            )
            for name in ("models", "tasks"):
                if name not in changes:
                    raise InputError(f"Say which {name} to run: --{name} a,b,c, or a grid as --data.")
            changes.setdefault("splits", ["blocks", "slice"])
            root = data.parent if data.is_file() else data
            grid = Grid.of([study], **changes, seeds=tuple(range(seeds or 1)), root=root)
        if ours is not None and ours not in grid.models:
            raise InputError(f"--ours {ours} is none of the models that run: {', '.join(grid.models)}.")
        with processes(workers) as executor:
            outcome = run_benchmark(grid, out, executor=executor, progress=progress)
        written = [] if outcome.table.empty else write_report(outcome.table, out, ours=ours)
    for note in outcome.notes:
        typer.echo(f"note: {note}", err=True)
    for failure in outcome.failures.itertuples():
        where = ", ".join(str(part) for part in (failure.study, failure.task, failure.model, failure.split) if part)
        typer.secho(f"error: {where}, seed {failure.seed}: {failure.reason}", fg="red", err=True)
    files = ", ".join(file.name for file in written[:4])
    said = f"{number(len(outcome.table), 'number')} in table.csv and table.parquet"
    typer.echo("; ".join(filter(None, [f"{out}: {said}", files])), err=True)
    if len(outcome.failures):
        raise typer.Exit(1)


def _split(given: list[str]) -> list[str]:
    return [name for text in given for name in text.split(",") if name]


def _labels(given: Names) -> dict[str, str]:
    labels = {}
    for text in given or ():
        name, found, column = text.partition("=")
        if not found or not name or not column:
            raise InputError(f"--label takes NAME=COLUMN, as domain=layer, not '{text}'.")
        labels[name] = column
    return labels


def _files(data: Path) -> list[str]:
    if data.is_file():
        return [data.name]
    if not data.is_dir():
        raise InputError(f"'{data}' does not exist: give a grid (.yaml), an .h5ad file or a folder of them.")
    files = sorted(path.name for path in data.glob("*.h5ad"))
    if not files:
        raise InputError(f"'{data}' holds no .h5ad file.")
    return files
