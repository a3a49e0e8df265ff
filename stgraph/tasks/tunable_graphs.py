"""A model of slice graphs, to be trained on labels part by part."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from torch.utils.data import Subset
from torch_geometric.transforms import Compose

from stgraph.data.box import SliceBox
from stgraph.data.parts import PartDataset
from stgraph.data.truth import CellTruth, known
from stgraph.graph.slice_graph import SliceGraph
from stgraph.models.cell_predictor import CellPredictor, CellReader
from stgraph.partition.base import Partitioner
from stgraph.partition.spatial import CoordinateBisection
from stgraph.tasks.pretrained import Pretrained
from stgraph.tasks.tunable import Truth, Tuned, known_rows


class TunableGraphs:
    """Graphs of slices and the model that built them; see `stgraph.tasks.tunable.Tunable`.

    Parameters
    ----------
    start
        What was learnt without labels; it is not changed.
    slices
        By name.
    names
        Of those that are needed.
    partitioner
        How slices are cut into parts.
    """

    def __init__(
        self, start: Pretrained, slices: Mapping[str, AnnData], names: Iterable[str], partitioner: Partitioner
    ) -> None:
        self.start, self.partitioner = start, partitioner
        # Under the names of the fold, which are those of the truth.
        self.graphs: dict[str, SliceGraph] = {
            name: replace(start.graph(slices[name]), slice_id=name) for name in dict.fromkeys(names)
        }
        self._read: dict[str, NDArray[np.floating]] | None = None

    def read(self, truth: Truth) -> NDArray[np.floating]:
        """What a head is given of the known cells."""
        return known_rows(self._whole(), truth)

    def begin(self, out_channels: int, head_channels: Sequence[int], dropout: float) -> Pretrained:
        """A copy of the network with a drawn head."""
        width = next(iter(self._whole().values())).shape[1]
        model = CellPredictor(width, out_channels, deepcopy(self.start.model), head_channels, dropout).eval()
        return replace(self.start, model=model, domains=None)

    def data(self, truth: Truth) -> Subset[Any]:
        """Parts with a cell to learn from, seen as they will be when the model predicts."""
        size = self.start.model.part_size
        graphs = [self.graphs[name] for name in truth]
        dataset = PartDataset(
            graphs,
            CoordinateBisection(size) if size else self.partitioner,
            num_hops=0 if size else self.start.model.num_layers,
            transform=Compose([SliceBox(graphs), CellTruth(truth)]),
        )
        useful = []
        for number, name in enumerate(dataset.slice_of):
            part = dataset.part(number)
            if known(truth[name][part.cells[part.owned]]).any():
                useful.append(number)
        return Subset(dataset, useful)

    def said(self, tuned: Tuned, truth: Truth) -> NDArray[np.floating]:
        """What the trained network says of the known cells."""
        model = cast(Pretrained, tuned)
        return known_rows({name: model.embed_graph(self.graphs[name]) for name in truth}, truth)

    def predict(self, tuned: Tuned, adata: AnnData) -> NDArray[np.floating]:
        """What it says of all cells of a slice."""
        model = cast(Pretrained, tuned)
        return model.embed_graph(model.graph(adata))

    def _whole(self) -> dict[str, NDArray[np.floating]]:
        """What a head is given of all cells, by slice; read once."""
        if self._read is None:
            reader = replace(self.start, model=CellReader(self.start.model))
            self._read = {name: reader.embed_graph(graph) for name, graph in self.graphs.items()}
        return self._read
