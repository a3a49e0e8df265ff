"""A trained model with all it needs to read a new slice."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import to_config
from stgraph._files import atomic_path
from stgraph.data.box import SliceBox
from stgraph.data.parts import part_data
from stgraph.graph.build import graph_of
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.virtual_cells import VirtualCellBuilder
from stgraph.models.base import CellGraphModel
from stgraph.partition.base import Partitioner
from stgraph.partition.halo import part_with_halo
from stgraph.partition.spatial import CoordinateBisection
from stgraph.preprocess.encoder import CellEncoder
from stgraph.tasks.domains import DomainFinder
from stgraph.tasks.model_card import CARD, card_facts, model_card
from stgraph.tasks.weight_licence import licences_of
from stgraph.training.checkpoint import save_checkpoint, unmark

GENES = "genes.txt"
"""Names of the genes that the encoder reads, one a line: for people, and for programs that know nothing of stgraph."""

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
    partitioner
        How slices are cut for a model to which a part is all there is, and whose embeddings depend on the cut; None
        cuts them by their coordinates.
    """

    encoder: CellEncoder
    builder: GraphBuilder
    virtual_cells: VirtualCellBuilder | None
    model: CellGraphModel
    domains: DomainFinder | None = None
    info: dict[str, Any] = field(default_factory=dict)
    partitioner: Partitioner | None = None

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
            ``part_size`` of its own is given parts of that, or those of the ``partitioner``, without their
            surroundings.

        Returns
        -------
        ndarray
            (N, C) float32.
        """
        device = next((each.device for each in self.model.parameters()), torch.device("cpu"))
        own = self.partitioner if self.model.part_size else None
        partition = (own or CoordinateBisection(self.model.part_size or part_size))(graph)
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

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        name: str | None = None,
        licence: str | None = None,
        data: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Write a model directory, as it can be copied, shared and put on a hub; ``save`` is another name for it.

        It holds ``config.json``, the arrays of every part in safetensors, the names of the genes it reads in
        ``genes.txt``, and a model card, ``README.md``. The card holds nothing but what is known: the settings, and
        what is said here. All of it is remembered, and need not be said again when a loaded model is saved.

        Parameters
        ----------
        folder
            Where to; created if needed. Files of these names, the card among them, are replaced.
        name
            Of the model, ``"organisation/model"`` if it will have an id on a hub; None for that of the folder.
        licence
            Of the weights, as the hub writes it: ``"mit"``, ``"cc-by-4.0"``, ``"other"``. None says that it is unknown;
            or ``"other"``, where the weights carry a licence, whose text is then in the card.
        data
            What it was trained on, in words: where the slices come from, which tissue, under which terms.
        metrics
            Scores that were measured, by what they are called.

        Raises
        ------
        InputError
            If a licence or score is not one, or the weights carry a licence and another is given.

        Examples
        --------
        >>> import tempfile, stgraph
        >>> from pathlib import Path
        >>> result = stgraph.fit(
        ...     stgraph.synthetic_tissue(n_cells=200, n_genes=60),
        ...     trainer={"_target_": "stgraph.training.loop.Trainer", "max_steps": 2},
        ...     progress=False,
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result.pretrained.save_pretrained(folder, licence="cc0-1.0", data="Synthetic tissue.")
        ...     print((Path(folder) / "README.md").read_text().splitlines()[2])
        license: cc0-1.0
        """
        folder = Path(folder)
        parts = self._configs()
        carried = licences_of((self.encoder, self.model))
        facts = card_facts(self.info, name=name, licence=licence, data=data, metrics=metrics, carried=carried)
        info = self.info | ({"card": facts} if facts else {})
        genes = [str(gene) for gene in self.encoder.genes]
        num_weights = sum(weight.numel() for weight in self.model.parameters())
        texts = {
            GENES: "".join(f"{gene}\n" for gene in genes),
            CARD: model_card(folder.resolve().name, parts, info, genes=genes, num_weights=num_weights),
        }
        tensors = {"encoder": _to_tensors(self.encoder.state()), "model": self.model.state_dict()}
        if self.domains is not None:
            tensors["domains"] = _to_tensors(self.domains.state())
        unmark(folder)
        for file, text in texts.items():
            with atomic_path(folder / file) as tmp:
                tmp.write_text(text, encoding="utf-8")
        save_checkpoint(folder, {"parts": parts, "info": info}, tensors)

    save = save_pretrained

    def _configs(self) -> dict[str, Any]:
        return {
            name: to_config(part)
            for name, part in (
                ("encoder", self.encoder),
                ("builder", self.builder),
                ("virtual_cells", self.virtual_cells),
                ("model", self.model),
                ("domains", self.domains),
                ("partitioner", self.partitioner),
            )
        }


def _to_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _to_numpy(states: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(states.float().cpu().numpy())
