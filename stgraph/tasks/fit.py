"""The main job: slices in; a trained model, embeddings and domains out."""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from anndata import AnnData

from stgraph._config import TARGET, import_class, instantiate, to_config
from stgraph.data.box import SliceBox
from stgraph.data.parts import PartDataset
from stgraph.graph.builders import KNN, GraphBuilder
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.virtual_cells import JointLeiden, VirtualCellBuilder
from stgraph.io.read import ensure_canonical
from stgraph.io.slices import split_slices
from stgraph.models.base import CellGraphModel
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import Objective, WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.base import Partitioner
from stgraph.partition.metis import Metis
from stgraph.preprocess.encoder import CellEncoder, LogPCA
from stgraph.tasks.domains import DomainFinder, MixtureDomains
from stgraph.tasks.outcome import annotated, check_run, embed_graphs, find_domains
from stgraph.tasks.pretrained import Pretrained
from stgraph.training.loop import Record, Trainer
from stgraph.training.tracking import progress_bar

Config = Mapping[str, Any]
"""``{"_target_": "import.path.Class", ...}``: what `stgraph._config.instantiate` builds."""


@dataclass
class FitResult:
    """What `fit` gives.

    Attributes
    ----------
    adatas
        For each slice, by name, a copy with embedding, domains, graph and parameters.
    pretrained
        The trained model, ready for `stgraph.embed` and ``save``.
    graphs
        The graph of each slice.
    history
        One record of losses and speed for each training step.
    timings
        Seconds of each stage.
    settings
        The config of every part, as it was used.
    """

    adatas: dict[str, AnnData]
    pretrained: Pretrained
    graphs: dict[str, SliceGraph]
    history: list[Record]
    timings: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)


DEFAULTS: dict[str, Any] = {
    "encoder": LogPCA,
    "builder": KNN,
    "virtual_cells": JointLeiden,
    "partitioner": Metis,
    "model": SE2Transformer,
    "objectives": (MaskedCell, DistanceRecovery),
    "trainer": Trainer,
    "domains": MixtureDomains,
}
"""The class of each part of a run, built with its own defaults if nothing else is given."""

_DEFAULT: Any = object()


def fit(
    slices: AnnData | Sequence[AnnData],
    *,
    encoder: CellEncoder | Config = _DEFAULT,
    builder: GraphBuilder | Config = _DEFAULT,
    virtual_cells: VirtualCellBuilder | Config | None = _DEFAULT,
    partitioner: Partitioner | Config = _DEFAULT,
    num_hops: int = 1,
    model: Callable[..., CellGraphModel] | Config = _DEFAULT,
    objectives: Sequence[Objective | Config] = _DEFAULT,
    trainer: Trainer | Config = _DEFAULT,
    domains: DomainFinder | Config | None = _DEFAULT,
    random_state: int = 0,
    progress: bool = True,
    on_step: Callable[[Record], None] | None = None,
) -> FitResult:
    """Train on slices without labels; embed their cells and find their domains.

    Every part may be an object, or a config with ``_target_``; a part of your own is
    named by its import path or passed as an object.

    Parameters
    ----------
    slices
        One AnnData or several, as `stgraph.read` gives them. They are not changed.
    encoder
        Counts to features.
    builder
        Who is whose neighbour.
    virtual_cells
        How cells are grouped into supernodes; None for none.
    partitioner
        How slices are cut into parts for training; and for embedding, if parts are all there is to the model (it has
        a ``part_size``).
    num_hops
        Hops of context around each part; such a model is given none.
    model
        The network: a config, or a callable that takes ``in_channels``.
    objectives
        What it is trained to do.
    trainer
        How it is trained.
    domains
        How embeddings are clustered; all slices together. None for no domains.
    random_state
        The seed of every part that has one and was not given its own.
    progress
        Whether to draw a progress bar on standard error.
    on_step
        Called with the record of each step.

    Returns
    -------
    FitResult
        Slices with results, the model, and the record of the run.

    Raises
    ------
    InputError
        If the slices cannot be used.
    TrainingError
        If the loss stops being finite.

    Examples
    --------
    >>> import stgraph
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)
    >>> trainer = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 2}
    >>> result = stgraph.fit(tissue, trainer=trainer, progress=False)
    >>> result.adatas["synthetic_0"].obsm["X_stgraph"].shape
    (200, 64)
    """
    given = {
        "encoder": encoder,
        "builder": builder,
        "virtual_cells": virtual_cells,
        "partitioner": partitioner,
        "objectives": objectives,
        "trainer": trainer,
        "domains": domains,
    }
    parts = {name: _build(name, part, random_state) for name, part in given.items()}
    make_model = _model_factory(model)
    timings: dict[str, float] = {}

    with _timed(timings, "check"):
        named = split_slices(_canonical(slices))
        check_run(named, parts["domains"], num_hops, random_state)
    with _timed(timings, "encode"):
        parts["encoder"].fit(list(named.values()))
        features = {name: parts["encoder"].transform(adata) for name, adata in named.items()}
    with torch.random.fork_rng():
        torch.manual_seed(random_state)
        network = make_model(in_channels=next(iter(features.values())).shape[1])
    num_hops = 0 if network.part_size else num_hops
    pretrained = Pretrained(
        parts["encoder"],
        parts["builder"],
        parts["virtual_cells"],
        network,
        partitioner=parts["partitioner"] if network.part_size else None,
    )
    with _timed(timings, "graph"):
        graphs = {name: pretrained.graph(adata, features[name]) for name, adata in named.items()}
    with _timed(timings, "partition"):
        box = SliceBox(graphs.values())
        dataset = PartDataset(graphs.values(), parts["partitioner"], num_hops=num_hops, transform=box)
    with _timed(timings, "train"):
        bar = progress_bar(parts["trainer"].max_steps) if progress else nullcontext(None)
        with bar as show:
            history = parts["trainer"].fit(
                network, dataset, WeightedSum(parts["objectives"]), on_step=_both(show, on_step)
            )
    with _timed(timings, "embed"):
        embeddings = embed_graphs(pretrained, graphs)
    with _timed(timings, "domains"):
        find_domains(pretrained, parts["domains"], graphs, embeddings)

    settings = {name: to_config(part) for name, part in parts.items()}
    settings |= {"model": to_config(pretrained.model), "num_hops": num_hops, "random_state": random_state}
    adatas = annotated(named, graphs, embeddings, pretrained, random_state=random_state, settings=settings)
    return FitResult(adatas, pretrained, graphs, history, timings, settings)


def _canonical(slices: AnnData | Sequence[AnnData]) -> list[AnnData]:
    given = [slices] if isinstance(slices, AnnData) else list(slices)
    return [ensure_canonical(adata, name=f"slice_{i}") for i, adata in enumerate(given)]


def _build(name: str, part: Any, random_state: int) -> Any:
    """The object a part of a run is given as: itself, a config, a list of these, or the default."""
    if part is _DEFAULT:
        part = DEFAULTS[name]
    if isinstance(part, list | tuple):
        return [_build(name, item, random_state) for item in part]
    if inspect.isclass(part):
        return part(**_seed(part, {}, random_state))
    if isinstance(part, Mapping):
        cls = import_class(str(part.get(TARGET, "")))
        return instantiate(dict(part) | _seed(cls, part, random_state))
    return part


def _seed(cls: type, given: Mapping[str, Any], random_state: int) -> dict[str, int]:
    takes = "random_state" in inspect.signature(cls).parameters
    return {"random_state": random_state} if takes and "random_state" not in given else {}


def _model_factory(model: Any) -> Callable[..., CellGraphModel]:
    if model is _DEFAULT:
        model = DEFAULTS["model"]
    return partial(instantiate, model) if isinstance(model, Mapping) else model


def _both(first: Callable[[Record], None] | None, second: Callable[[Record], None] | None) -> Callable[[Record], None]:
    def call(record: Record) -> None:
        for listener in (first, second):
            if listener is not None:
                listener(record)

    return call


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - begin
