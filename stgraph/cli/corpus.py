"""The verbs of a corpus: many slices in one folder, for training on more than memory holds."""

from pathlib import Path
from typing import Annotated

import typer

from stgraph.cli.long_jobs import bar, resumable
from stgraph.cli.notes import spoken
from stgraph.cli.options import Keep, Layer, Seed, Settings, SliceKey, Slices, UmPerUnit, units_by_file
from stgraph.errors import InputError

corpus_app = typer.Typer(
    help="Many slices in one folder, cut into parts that are read as they are needed.", no_args_is_help=True
)

STAGES = {
    "scan": "looking into files",
    "sample": "sampling cells",
    "build": "building slices",
    "verify": "verifying",
}
"""What the stages of a corpus are called beside the progress bar."""

Workers = Annotated[int, typer.Option(min=1, help="Processes; each holds one file in memory.")]


@corpus_app.command()
def build(
    slices: Slices,
    out: Annotated[Path, typer.Option(help="Folder of the corpus: new, unfinished, or to add to.", show_default=False)],
    workers: Workers = 1,
    um_per_unit: UmPerUnit = None,
    slice_key: SliceKey = None,
    layer: Layer = None,
    keep: Keep = None,
    rep: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Take the features from obsm[KEY], not from an encoder.", show_default=False),
    ] = None,
    obs: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Keep this column of obs as a label. May be repeated.")
    ] = None,
    genes: Annotated[
        Path | None,
        typer.Option(help="Genes to keep, one a line, if not all that the slices have.", show_default=False),
    ] = None,
    seed: Seed = 0,
    settings: Settings = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, removing the corpus that stands at --out.")
    ] = False,
) -> None:
    """Build a corpus, go on with one that was interrupted, or add slices to one."""
    from stgraph._config import instantiate  # noqa: PLC0415  slow to import
    from stgraph.cli.compose import compose_config  # noqa: PLC0415
    from stgraph.data.corpus import build_corpus  # noqa: PLC0415
    from stgraph.data.jobs import processes  # noqa: PLC0415

    config = compose_config("corpus", [f"random_state={seed}", *(settings or [])])
    with spoken(), resumable(out), bar(STAGES) as progress, processes(workers) as executor:
        manifest = build_corpus(
            slices,
            out,
            executor=executor,
            builder=instantiate(config["graph"]),
            virtual_cells=instantiate(config.get("virtual_cells") or None),  # none.yaml is empty
            partitioner=instantiate(config["partition"]),
            encoder=None if rep is not None else instantiate(config["encoder"]),
            use_rep=rep,
            um_per_unit=units_by_file(um_per_unit, slices),
            slice_key=slice_key,
            layer=layer,
            keep=keep,
            obs_columns=obs or (),
            genes=None if genes is None else _lines(genes),
            sample_cells=config["sample_cells"],
            random_state=config["random_state"],
            overwrite=overwrite,
            progress=progress,
        )
    _say(
        f"{out}: {len(manifest.slices)} slices, {manifest.num_cells:,} cells, {len(manifest.genes):,} genes, "
        f"{manifest.num_parts:,} parts, {_size(manifest.num_bytes)}"
    )


@corpus_app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus: the --out of corpus build.")],
    workers: Workers = 1,
) -> None:
    """Read all of a corpus, and say what is missing or has changed since it was written."""
    from stgraph.data.jobs import processes  # noqa: PLC0415  slow to import
    from stgraph.data.manifest import Manifest  # noqa: PLC0415
    from stgraph.data.verify import verify_corpus  # noqa: PLC0415

    with spoken(), bar(STAGES) as progress, processes(workers) as executor:
        problems = verify_corpus(folder, executor, progress=progress)
    for problem in problems:
        typer.secho(f"error: {problem}", fg="red", err=True)
    if problems:
        raise typer.Exit(2)
    manifest = Manifest.load(folder)
    _say(f"{folder}: {len(manifest.slices)} slices, {manifest.num_cells:,} cells: every byte is as it was written")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows puts a mark before the first gene
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The genes in '{path}' cannot be read ({error}): give a text file, one gene a line."
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def _say(text: str) -> None:
    typer.echo(text, err=True)
