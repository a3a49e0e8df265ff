"""A trained model with all it needs to read a new slice."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import instantiate, to_config
from stgraph.data.box import SliceBox
from stgraph.data.parts import part_data
from stgraph.errors import CheckpointError, InputError, TrustError
from stgraph.graph.build import graph_of
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.virtual_cells import VirtualCellBuilder
from stgraph.models.base import CellGraphModel
from stgraph.partition.halo import part_with_halo
from stgraph.partition.spatial import CoordinateBisection
from stgraph.preprocess.encoder import CellEncoder
from stgraph.tasks.domains import DomainFinder
from stgraph.training.checkpoint import load_checkpoint, load_weights, save_checkpoint

INFERENCE_PART_SIZE = 20_000
"""Cells embedded at once; larger slices go in parts with a halo, which changes no number."""


@dataclass
class Pretrained:
    """Cell encoder, graph builder, network and domains, fitted together.

    Attributes
    ----------
    encoder
        Counts to features.
    builder, virtual_cells
        Positions and features to a graph.
    model
        Graph to embedding.
    domains
        Embedding to domains, or None.
    info
        What else is known: the slices it was trained on, versions, the seed.
    """

    encoder: CellEncoder
    builder: GraphBuilder
    virtual_cells: VirtualCellBuilder | None
    model: CellGraphModel
    domains: DomainFinder | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def graph(self, adata: AnnData, features: NDArray[np.float32] | None = None) -> SliceGraph:
        """Graph of one canonical slice, with features from the encoder unless they are at hand."""
        x = self.encoder.transform(adata) if features is None else features
        return graph_of(adata, x, builder=self.builder, virtual_cells=self.virtual_cells)

    def embed_graph(self, graph: SliceGraph, *, part_size: int = INFERENCE_PART_SIZE) -> NDArray[np.float32]:
        """Embedding of every cell of a slice graph.

        Parameters
        ----------
        graph
            From `graph`.
        part_size
            Cells embedded at once. Each part sees as many hops around it as the network
            has layers, so that the result does not depend on it. A model that has a
            ``part_size`` of its own is given parts of that, without their surroundings.

        Returns
        -------
        ndarray
            (N, C) float32.
        """
        device = next(self.model.parameters()).device
        partition = CoordinateBisection(self.model.part_size or part_size)(graph)
        hops = 0 if self.model.part_size else self.model.num_layers
        box = SliceBox([graph])
        out: NDArray[np.float32] | None = None
        for number in range(partition.num_parts):
            # One part at a time: all pairs of cells and virtual cells of a large slice would not fit.
            part = part_with_halo(graph, partition.cells(number), hops)
            states = _to_numpy(self.model.embed(box(part_data(graph, part)).to(device)))[part.owned]
            out = np.empty((len(graph), states.shape[1]), dtype=np.float32) if out is None else out
            out[part.cells[part.owned]] = states
        assert out is not None
        return out

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a model directory: ``config.json`` and safetensors.

        Parameters
        ----------
        folder
            Where to; created if needed.
        """
        config = {
            name: to_config(part)
            for name, part in (
                ("encoder", self.encoder),
                ("builder", self.builder),
                ("virtual_cells", self.virtual_cells),
                ("model", self.model),
                ("domains", self.domains),
            )
        }
        tensors = {"encoder": _to_tensors(self.encoder.state()), "model": self.model.state_dict()}
        if self.domains is not None:
            tensors["domains"] = _to_tensors(self.domains.state())
        save_checkpoint(folder, {"parts": config, "info": self.info}, tensors)


def from_pretrained(folder: str | os.PathLike[str], *, trust: Sequence[str] = ()) -> Pretrained:
    """Load a model directory.

    Parameters
    ----------
    folder
        A directory that ``stgraph fit`` or `Pretrained.save` wrote.
    trust
        Packages beside stgraph whose classes may be built, for models with parts of your
        own. A model directory from others can name any class; those of other packages
        are refused.

    Returns
    -------
    Pretrained
        On the CPU, in eval mode.

    Raises
    ------
    CheckpointError
        If the directory is missing, damaged, incomplete or of another format version.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> result = stgraph.fit(
    ...     stgraph.synthetic_tissue(n_cells=200, n_genes=60),
    ...     trainer={"_target_": "stgraph.training.loop.Trainer", "max_steps": 2},
    ...     progress=False,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result.pretrained.save(folder)
    ...     stgraph.from_pretrained(folder).model.num_layers
    1
    """
    config, tensors = load_checkpoint(folder)
    build = partial(instantiate, trusted=("stgraph", *trust))
    try:
        parts = config["parts"]
        encoder = build(parts["encoder"]).load_state(_to_arrays(tensors["encoder"]))
        model = build(parts["model"])
        weights = tensors["model"]
        domains = build(parts["domains"])
        if domains is not None:
            domains.load_state(_to_arrays(tensors["domains"]))
        pretrained = Pretrained(
            encoder=encoder,
            builder=build(parts["builder"]),
            virtual_cells=build(parts["virtual_cells"]),
            model=model,
            domains=domains,
            info=dict(config.get("info", {})),
        )
    except TrustError as error:
        raise TrustError(f"The model '{Path(folder)}' is not all of stgraph: {error}") from error
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise CheckpointError(
            f"'{Path(folder)}' does not describe a model this stgraph can build ({error}): was its config.json edited?"
        ) from error
    load_weights(model, weights, name=f"'{Path(folder)}'")
    model.eval()
    return pretrained


def _to_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _to_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _to_numpy(states: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(states.float().cpu().numpy())
