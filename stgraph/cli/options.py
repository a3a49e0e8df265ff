"""Options that several verbs take, with the same words."""

from pathlib import Path
from typing import Annotated

import typer

from stgraph.errors import InputError

Slices = Annotated[
    list[Path], typer.Argument(metavar="SLICE.h5ad...", help="Slices: h5ad files with raw counts and obsm['spatial'].")
]
UmPerUnit = Annotated[
    list[str] | None,
    typer.Option(
        "--um-per-unit",
        metavar="UM | NAME=UM",
        help="Microns per unit of the coordinates: of all files, or of the file NAME.h5ad. May be repeated.",
    ),
]
SliceKey = Annotated[
    str | None,
    typer.Option(help="Column of obs that tells the sections of a file apart.", show_default=False),
]
Layer = Annotated[str | None, typer.Option(help="Layer with the raw counts, if X has others.", show_default=False)]
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="QUERY", help="Use only cells for which this pandas query over obs holds.", show_default=False
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out, once the new is complete.")]
Seed = Annotated[int, typer.Option(min=0, help="The one seed of the run.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, as in graph=radius, graph.radius=30, model.num_layers=3. May be repeated.",
    ),
]


def units_by_file(values: list[str] | None, files: list[Path]) -> dict[str, float]:
    """Microns per unit by file name without suffix."""
    units: dict[str, float] = {}
    names = [file.stem for file in files]
    for value in values or []:
        name, _, number = value.rpartition("=")
        try:
            um = float(number)
        except ValueError:
            raise InputError(f"--um-per-unit takes a number or NAME=NUMBER, not '{value}'.") from None
        if name and name not in names:
            raise InputError(f"--um-per-unit {value}: no slice file is called '{name}'; there are: {', '.join(names)}.")
        units |= {name: um} if name else {n: um for n in names if n not in units}
    return units
