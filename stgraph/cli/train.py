"""The verb that trains in stages."""

from pathlib import Path
from typing import Annotated

import typer

from stgraph.cli.long_jobs import resumable
from stgraph.cli.notes import spoken
from stgraph.errors import InputError

HELP = r"""Train in stages on slices without labels, by a recipe.

stgraph train experiment=stofm 'data.files=\[a.h5ad,b.h5ad]' out=runs/stofm

Settings are KEY=VALUE, as of any Hydra program: GROUP=CHOICE takes a
file of configs/GROUP, GROUP.KEY=VALUE changes one value.

experiment=NAME: the recipe, a file of configs/experiment: stofm or
aido_tissue, or stofm_small or aido_tissue_small for two cores.

data.files: h5ad files with raw counts and obsm\['spatial']; * and ? stand
for any names. data.um_per_unit, data.slice_key, data.layer, data.keep: as
for fit; a query is quoted twice, 'data.keep="area > 5"'.

out=DIR: the folder of the results. One that is there is gone on with.

encoder, graph, virtual_cells, partition, model, objective, domains: files
of their groups, as in encoder=rank_cells, or value_cells, or log_pca.

trainer.lr, .batch_size, .accumulate, .precision, .accelerator, ...: of all
stages. stages.NAME.trainer.lr, stages.NAME.epochs, ...: of one stage.
stages.NAME=null leaves a stage out. Published weights need none, as in
experiment=aido_tissue stages.neighborhoods=null encoder.weights=FILE
encoder.gene_list=TABLE.

An experiment may set any of these for a stage of its own: there trainer.KEY
changes nothing, and stages.NAME.trainer.KEY does. Where a stage counts
epochs, max_steps does nothing.

random_state=1: the one seed. redo=true: train anew what was trained with
other settings or data, which is refused otherwise.

Stopped at any moment, even by a crash, the same command goes on where it
was, with the same numbers. On several devices: torchrun --nproc-per-node 4
--no-python stgraph train ... trainer.devices=4.

-m (--multirun) runs a sweep: values are named as in trainer.lr=0.01,0.001
or 'random_state=range(0,3)', and every combination is trained, in a folder
of its own. experiment=neighbor_scaling is a sweep by itself, of models that
are judged: number of neighbours k, size and seed, with table and figures;
k=8,16 makes it smaller. --workers N runs N points at a time. What fails is
said at the end and stops no other; the same command goes on.

Results in DIR: a model directory, which stgraph embed applies to other
slices; NAME.h5ad for each slice, with its embedding; stages/ with weights
and metrics of each stage; cache/ with features, which may be deleted."""


def train(
    settings: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="Settings; experiment=, data.files= and out= at least.")
    ],
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Run a sweep: every combination of the values of a=1,2.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="With -m: processes, each of which runs one point.")] = 1,
    show: Annotated[bool, typer.Option("--show", help="Print the settings as they are composed, and exit.")] = False,
) -> None:
    """Train in stages; see `HELP`, which is what --help says."""
    for setting in settings:
        if "=" not in setting and not setting.startswith("~"):
            raise InputError(
                f"'{setting}' is no setting: they are KEY=VALUE, such as data.files=[{setting}] or experiment=stofm."
            )
    if multirun:
        from stgraph.cli.train_sweep import run_sweep, show_sweep  # noqa: PLC0415  slow to import

        if show:
            typer.echo(show_sweep(settings), nl=False)
        else:
            run_sweep(settings, workers=workers)
        return
    if workers != 1:
        raise InputError("--workers is for sweeps: add -m. One run goes over several processes by torchrun.")
    from stgraph.cli.compose import compose_config  # noqa: PLC0415  slow to import

    config = compose_config("train", settings, option="")
    if show:
        import yaml  # noqa: PLC0415

        typer.echo(yaml.safe_dump(config, sort_keys=False), nl=False)
        return
    from stgraph.cli.train_run import run_train  # noqa: PLC0415  torch is slow to import

    with spoken(), resumable(Path(str(config["out"]))):
        run_train(config)
