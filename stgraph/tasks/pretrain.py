"""Staged pretraining: slices in; a trained model and embeddings out, and a folder to go on from."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.virtual_cells import VirtualCellBuilder
from stgraph.io.read import ensure_canonical
from stgraph.io.slices import split_slices
from stgraph.models.base import CellGraphModel
from stgraph.partition.base import Partitioner
from stgraph.preprocess.encoder import CellEncoder
from stgraph.tasks.collapse import warn_of_collapse
from stgraph.tasks.domains import DomainFinder
from stgraph.tasks.outcome import annotated, check_run, embed_graphs, find_domains
from stgraph.tasks.pretrained import Pretrained
from stgraph.tasks.stage_plan import StagePlan
from stgraph.tasks.staged_run import StagedRun, open_cache
from stgraph.tasks.train_jointly import TrainJointly
from stgraph.training.stages import Stage, StageResult, Watch, run_stages

Config = Mapping[str, Any]
"""``{"_target_": "import.path.Class", ...}``: what `stgraph._config.instantiate` builds."""


@dataclass
class PretrainResult:
    """What `pretrain` gives.

    Attributes
    ----------
    adatas
        For each slice, by name, a copy with embedding, domains if asked for, graph and parameters.
    pretrained
        The trained model, ready for `stgraph.embed` and ``save``.
    graphs
        The graph of each slice.
    stages
        What became of each stage.
    """

    adatas: dict[str, AnnData]
    pretrained: Pretrained
    graphs: dict[str, SliceGraph]
    stages: list[StageResult]


def pretrain(
    slices: AnnData | Sequence[AnnData],
    folder: str | os.PathLike[str],
    *,
    encoder: CellEncoder | Config,
    builder: GraphBuilder | Config,
    virtual_cells: VirtualCellBuilder | Config | None,
    partitioner: Partitioner | Config,
    model: Callable[..., CellGraphModel] | Config,
    stages: Mapping[str, StagePlan | Config | None],
    num_hops: int = 1,
    domains: DomainFinder | Config | None = None,
    random_state: int = 0,
    redo: bool = False,
    watch: Watch | None = None,
) -> PretrainResult:
    """Train an encoder of cells and a model of slice graphs in stages, without labels.

    Whatever ends the program, called again with the same arguments it goes on where it was and gives the same
    numbers. What is done is known by what decides it, not by its name: settings, slices, and the weights that the
    stage before left.

    Parameters
    ----------
    slices
        One AnnData or several, as `stgraph.read` gives them. They are not changed.
    folder
        Where stages leave their weights (``stages/``) and features are kept (``cache/``).
    encoder
        Counts to features; fitted to all slices. Stages may train its network, if it has one.
    builder, virtual_cells
        Positions and features to a graph.
    partitioner, num_hops
        How graphs are cut into parts, and hops of context around each. A model to which a part is all there is (it has
        a ``part_size``) gets no hops, and is given the same parts when it embeds.
    model
        The graph model: a config, or a callable that takes ``in_channels``.
    stages
        By name, in their order, the plan of each: `stgraph.tasks.adapt_cells.AdaptCells`,
        `stgraph.tasks.train_graphs.TrainGraphs`, `stgraph.tasks.train_jointly.TrainJointly` or one of your own. None
        leaves a stage out.
    domains
        How embeddings are clustered; None for no domains.
    random_state
        Seed of the weights of the graph model; encoder, trainers and the others have seeds of their own.
    redo
        Train stages anew whose settings or data changed, instead of an error.
    watch
        Is told how training goes.

    Returns
    -------
    PretrainResult
        Slices with embeddings, the model, and what became of each stage.

    Raises
    ------
    InputError
        If the slices cannot be used, a stage does not fit the encoder, or a stage in ``folder`` was trained with other
        settings or data.
    TrainingError
        If a loss stops being finite.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> from functools import partial
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.virtual_cells import JointLeiden
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> from stgraph.partition.metis import Metis
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> from stgraph.tasks.pretrain import pretrain
    >>> from stgraph.tasks.train_graphs import TrainGraphs
    >>> from stgraph.training.loop import Trainer
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)
    >>> stages = {"spatial": TrainGraphs(trainer=Trainer(max_steps=2, warmup_steps=1), epochs=None)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train = partial(pretrain, tissue, folder, encoder=LogPCA(), builder=KNN(), virtual_cells=JointLeiden(),
    ...                     partitioner=Metis(), model=SE2Transformer, stages=stages)
    ...     train().stages[0].how, train().stages[0].how
    ('trained', 'kept')
    """
    given = [slices] if isinstance(slices, AnnData) else list(slices)
    named = split_slices([ensure_canonical(adata, name=f"slice_{i}") for i, adata in enumerate(given)])
    plans: dict[str, StagePlan] = {name: instantiate(plan) for name, plan in stages.items() if plan is not None}
    for name, plan in plans.items():
        if not hasattr(plan, "stage"):
            raise InputError(f"The stage '{name}' is planned by a {type(plan).__name__}, which has no stage method.")
    finder: DomainFinder | None = instantiate(domains)
    check_run(named, finder, num_hops, random_state)
    cells: CellEncoder = instantiate(encoder)
    run = StagedRun(
        slices=named,
        encoder=_fitted(cells, list(named.values()), plans),
        builder=instantiate(builder),
        virtual_cells=instantiate(virtual_cells),
        partitioner=instantiate(partitioner),
        num_hops=num_hops,
        make_model=partial(instantiate, model) if isinstance(model, Mapping) else model,
        cache=open_cache(Path(folder)),
        device=_device(plans),
        random_state=random_state,
    )
    results = run_stages(_made(plans, run), Path(folder) / "stages", redo=redo, watch=watch)

    graphs = run.graphs()
    pretrained = Pretrained(
        run.encoder,
        run.builder,
        run.virtual_cells,
        run.model.eval(),
        partitioner=run.partitioner if run.model.part_size else None,
    )
    run.model.to(run.device)
    embeddings = embed_graphs(pretrained, graphs)
    run.model.to("cpu")
    joint = any(isinstance(plan, TrainJointly) for plan in plans.values())
    for name, embedding in embeddings.items():
        x = np.asarray(graphs[name].x)
        warn_of_collapse(x, f"{name}: the features of cells by {type(run.encoder).__name__}", joint=joint)
        if not np.array_equal(x[: len(embedding)], embedding):  # of a model that passes features on
            warn_of_collapse(embedding, f"{name}: the embeddings", joint=joint)
    find_domains(pretrained, finder, graphs, embeddings)
    adatas = annotated(
        named,
        graphs,
        embeddings,
        pretrained,
        random_state=random_state,
        settings={
            "stages": {name: to_config(plan) for name, plan in plans.items()},
            "partitioner": to_config(run.partitioner),
            "num_hops": run.hops,
        },
        stages={result.name: {"steps": len(result.history), "last": _last(result)} for result in results},
    )
    return PretrainResult(adatas, pretrained, graphs, results)


def _fitted(encoder: CellEncoder, slices: Sequence[AnnData], plans: Mapping[str, StagePlan]) -> CellEncoder:
    """The encoder, fitted; that its network has learnt nothing yet is no news where a stage is going to train it."""
    with warnings.catch_warnings():
        if any(getattr(plan, "trains_cells", False) for plan in plans.values()):
            warnings.filterwarnings("ignore", message=".* its network is as it was drawn", category=StgraphWarning)
        return encoder.fit(slices)


def _device(plans: Mapping[str, StagePlan]) -> str:
    """Where features and embeddings are computed: on the GPU of this process if there is one and stages may use it."""
    trainers = [getattr(plan, "trainer", None) for plan in plans.values()]
    barred = any(getattr(trainer, "accelerator", "auto") == "cpu" for trainer in trainers)
    if barred or not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def _made(plans: Mapping[str, StagePlan], run: StagedRun) -> Iterator[Stage]:
    """Stages one by one: the encoder that a stage reads is the one that the stage before left."""
    for name, plan in plans.items():
        yield plan.stage(name, run)


def _last(result: StageResult) -> dict[str, float]:
    return dict(result.history[-1]) if result.history else {}
