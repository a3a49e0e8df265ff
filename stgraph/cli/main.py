"""The verbs of the command line."""

import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import stgraph
from stgraph.cli.benchmark import benchmark
from stgraph.cli.corpus import corpus_app
from stgraph.cli.notes import spoken
from stgraph.cli.options import Keep, Layer, Overwrite, Seed, Settings, SliceKey, Slices, UmPerUnit, units_by_file
from stgraph.cli.train import HELP as TRAIN_HELP
from stgraph.cli.train import train
from stgraph.errors import StgraphError

app = typer.Typer(
    name="stgraph",
    help="Graph neural networks for spatial-transcriptomics foundation models.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(corpus_app, name="corpus")
app.command()(benchmark)
app.command(help=TRAIN_HELP, no_args_is_help=True)(train)


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


ScoreAgainst = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Score the domains against this column of obs, beside simple methods."),
]
NDomains = Annotated[
    int | None, typer.Option(min=1, help="Number of domains, if not the 8 of configs/domains.", show_default=False)
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Training steps, if not those of configs/trainer.", show_default=False)
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"stgraph {stgraph.__version__}")
        raise typer.Exit


@app.command()
def fit(
    slices: Slices,
    out: Annotated[Path, typer.Option(help="Folder for the results.", show_default=False)],
    um_per_unit: UmPerUnit = None,
    slice_key: SliceKey = None,
    layer: Layer = None,
    keep: Keep = None,
    score_against: ScoreAgainst = None,
    n_domains: NDomains = None,
    steps: Steps = None,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.auto,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Overwrite = False,
) -> None:
    """Train on slices without labels; write embeddings, domains, the model and a report."""
    from stgraph.cli.run import RunOptions, read_slices, run_fit  # noqa: PLC0415  torch is slow to import

    options = RunOptions(
        out=out,
        score_against=score_against,
        overrides=_overrides(n_domains, steps, device, seed, settings),
        overwrite=overwrite,
        command=_command(),
        inputs=slices,
    )
    with spoken() as notes:
        run_fit(
            lambda: read_slices(
                slices, units_by_file(um_per_unit, slices), slice_key=slice_key, layer=layer, keep=keep
            ),
            options,
            notes,
        )


@app.command()
def embed(
    slice_file: Annotated[Path, typer.Argument(metavar="SLICE", help="An h5ad file, as for fit.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="FOLDER | ORGANISATION/NAME",
            help="Folder of a trained model, as the --out of fit or SToFM as published; or its id on the hub.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The h5ad file to write.", show_default=False)],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a model on the hub.", show_default=False)
    ] = None,
    um_per_unit: UmPerUnit = None,
    slice_key: SliceKey = None,
    layer: Layer = None,
    keep: Keep = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="PACKAGE", help="A package of yours whose classes the model may use. May be repeated."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Apply a trained model to a new slice."""
    from stgraph.cli.run import run_embed  # noqa: PLC0415  torch is slow to import

    with spoken():
        run_embed(
            slice_file,
            model,
            out,
            revision=revision,
            um_per_unit=units_by_file(um_per_unit, [slice_file]).get(slice_file.stem),
            slice_key=slice_key,
            layer=layer,
            keep=keep,
            trust=trust or [],
            overwrite=overwrite,
        )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    cells: Annotated[int, typer.Option(min=100, help="Cells of a slice.")] = 2500,
    steps: Steps = None,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Overwrite = False,
) -> None:
    """Do the main job on two slices of the embedded synthetic tissue."""
    from stgraph.cli.run import RunOptions, run_fit  # noqa: PLC0415  torch is slow to import

    options = RunOptions(
        out=out,
        score_against="domain",
        overrides=["domains.n_domains=7", *_overrides(None, steps, Device.auto, seed, settings)],
        overwrite=overwrite,
        command=_command(),
    )
    with spoken() as notes:
        run_fit(lambda: stgraph.synthetic_tissue(n_cells=cells, n_slices=2, random_state=seed), options, notes)


@app.command()
def doctor(
    cells: Annotated[int, typer.Option(min=2, help="Cells to measure with.")] = 20_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,
) -> None:
    """Tell which backends of edge attention run here, and measure each for about a second."""
    from stgraph.cli.doctor import run_doctor  # noqa: PLC0415  torch is slow to import

    with spoken():
        run_doctor(cells=cells, as_json=as_json)


def main() -> None:
    """Run the command line; errors of the user are one sentence and exit code 2."""
    # Terminated, as by a batch system, it leaves as tidily as on Control-C.
    signal.signal(signal.SIGTERM, _terminated)
    # A researcher's own classes are found in the folder the command is run from, after all that is installed.
    sys.path.append("")
    try:
        app()
    except StgraphError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2)
    except OSError as error:
        typer.secho(f"error: {error}; nothing was written.", fg="red", err=True)
        sys.exit(1)


def _terminated(*_: object) -> None:
    typer.secho("terminated: nothing was written.", fg="red", err=True)
    sys.exit(143)


def _command() -> str:
    return shlex.join(["stgraph", *sys.argv[1:]])


def _overrides(
    n_domains: int | None, steps: int | None, device: Device, seed: int, settings: list[str] | None
) -> list[str]:
    overrides = [f"random_state={seed}", f"trainer.accelerator={device.value}"]
    overrides += [] if n_domains is None else [f"domains.n_domains={n_domains}"]
    overrides += [] if steps is None else [f"trainer.max_steps={steps}"]
    return [*overrides, *(settings or [])]


if __name__ == "__main__":
    main()
