"""What the stages of a training share: slices, encoder, graphs and networks, made when they are asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import to_config
from stgraph.errors import InputError
from stgraph.graph.build import graph_of
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.virtual_cells import VirtualCellBuilder
from stgraph.models.base import CellGraphModel
from stgraph.models.cell_network import CellNetwork
from stgraph.partition.base import Partitioner
from stgraph.preprocess.encoder import CellEncoder
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.tasks.feature_cache import FeatureCache, state_hash
from stgraph.tasks.unlabelled import fingerprint

_HOW_NOT_WHAT = ("accelerator", "strategy", "checkpoint_every")
"""Arguments of a trainer that do not change what it trains: a run may go on with others. The number of processes is
none of these, for a step takes a batch of each."""


@runtime_checkable
class NetworkEncoder(Protocol):
    """A `stgraph.preprocess.encoder.CellEncoder` with a network that a stage may train.

    It reads cells one by one, or with their neighbours.

    Attributes
    ----------
    network
        Once fitted: a module with ``out_channels``. It may be trained in place: ``transform`` and ``state`` then
        follow.
    """

    network: Any


@runtime_checkable
class TokenEncoder(NetworkEncoder, Protocol):
    """One that is a tokenizer and a network on the tokens of single cells.

    Attributes
    ----------
    network
        Once fitted.
    """

    network: CellNetwork

    def tokenize(self, adata: AnnData) -> RaggedTokens:
        """Tokens of the N cells of one slice."""
        ...


@dataclass
class StagedRun:
    """Slices and parts of a run, for the stages that train on them.

    Parameters
    ----------
    slices
        By name, canonical.
    encoder
        Fitted to them; a stage may train its network.
    builder, virtual_cells
        Positions and features to a graph.
    partitioner, num_hops
        How graphs are cut into parts.
    make_model
        Makes the graph model, given ``in_channels``.
    cache
        Where features are kept.
    device
        Where the network of the encoder computes features; between, it is on the CPU.
    random_state
        Seed of the weights of the graph model.
    """

    slices: Mapping[str, AnnData]
    encoder: CellEncoder
    builder: GraphBuilder
    virtual_cells: VirtualCellBuilder | None
    partitioner: Partitioner
    num_hops: int
    make_model: Callable[..., CellGraphModel]
    cache: FeatureCache
    device: str = "cpu"
    random_state: int = 0
    _model: CellGraphModel | None = field(default=None, init=False, repr=False)
    _tokens: dict[str, RaggedTokens] | None = field(default=None, init=False, repr=False)
    _graphs: tuple[str, dict[str, SliceGraph]] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._data = {name: fingerprint(adata) for name, adata in self.slices.items()}
        self._fitted = state_hash(self.encoder.state())

    @property
    def cells(self) -> TokenEncoder:
        """The encoder, if it has a network of single cells that can be trained.

        Raises
        ------
        InputError
            If it has none.
        """
        if not isinstance(self.encoder, TokenEncoder):
            raise InputError(
                f"{type(self.encoder).__name__} is fitted and has no network of cells to train: choose "
                "encoder=rank_cells or encoder=value_cells, or leave the stage out (stages.NAME=null)."
            )
        return self.encoder

    @property
    def hops(self) -> int:
        """Hops of context around each part; none for a model to which a part is all there is."""
        return 0 if self.model.part_size else self.num_hops

    @property
    def model(self) -> CellGraphModel:
        """The graph model; its weights are drawn when it is first asked for."""
        if self._model is None:
            if isinstance(self.encoder, NetworkEncoder):
                width = self.encoder.network.out_channels
            else:
                width = next(iter(self.features().values())).shape[1]
            with torch.random.fork_rng():
                torch.manual_seed(self.random_state)
                self._model = self.make_model(in_channels=width)
        return self._model

    def tokens(self) -> dict[str, RaggedTokens]:
        """Tokens of the cells of each slice."""
        if self._tokens is None:
            self._tokens = {name: self.cells.tokenize(adata) for name, adata in self.slices.items()}
        return self._tokens

    def features(self) -> dict[str, NDArray[np.float32]]:
        """Features of the cells of each slice, by the encoder as it is now."""
        if not isinstance(self.encoder, NetworkEncoder):
            return {name: self.cache(self.encoder, adata) for name, adata in self.slices.items()}
        self.encoder.network.to(self.device)
        try:
            return {name: self.cache(self.encoder, adata) for name, adata in self.slices.items()}
        finally:
            self.encoder.network.to("cpu")

    def graphs(self) -> dict[str, SliceGraph]:
        """Graph of each slice, with features by the encoder as it is now."""
        state = state_hash(self.encoder.state())
        if self._graphs is None or self._graphs[0] != state:
            features = self.features()
            graphs = {
                name: graph_of(adata, features[name], builder=self.builder, virtual_cells=self.virtual_cells)
                for name, adata in self.slices.items()
            }
            self._graphs = state, graphs
        return self._graphs[1]

    def inputs_of_cells(self) -> dict[str, Any]:
        """What decides the tokens, and the network of cells as it was before any stage."""
        return {"slices": self._data, "encoder": to_config(self.encoder), "fitted": self._fitted}

    def inputs_of_graphs(self) -> dict[str, Any]:
        """What decides parts of graphs, and the graph model before any stage; features follow from weights."""
        return {
            **self.inputs_of_cells(),
            "graph": to_config(self.builder),
            "virtual_cells": to_config(self.virtual_cells),
            "partition": to_config(self.partitioner),
            "num_hops": self.hops,
            "model": to_config(self.model),
            "random_state": self.random_state,
        }


def settings_of(plan: object) -> dict[str, Any]:
    """The settings of a stage that decide what it trains.

    Parameters
    ----------
    plan
        A stage plan, such as `stgraph.tasks.adapt_cells.AdaptCells`.

    Returns
    -------
    dict
        Its config, without what a run may go on with otherwise (the kind of device, how processes talk to each other,
        how often checkpoints are written) and without a ``max_steps`` that ``epochs`` stand in place of.
    """
    config: dict[str, Any] = to_config(plan)
    if isinstance(config.get("trainer"), dict):
        idle = (*_HOW_NOT_WHAT, "max_steps") if config.get("epochs") is not None else _HOW_NOT_WHAT
        config["trainer"] = {key: value for key, value in config["trainer"].items() if key not in idle}
    return config


def open_cache(folder: Path) -> FeatureCache:
    """The cache of a run in its folder."""
    return FeatureCache(folder / "cache")
