"""A network of neighbourhoods, to be trained on labels centre by centre."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.data.labelled_neighborhoods import LabelledNeighborhoods
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.truth import known
from stgraph.models.center_predictor import CenterPredictor
from stgraph.tasks.embed_neighborhoods import embed_neighborhoods
from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
from stgraph.tasks.tunable import Truth, Tuned
from stgraph.training.batches import SampledBatches


@dataclass
class TunedNeighborhoods:
    """A network with a head, and the encoder that reads slices for it.

    Attributes
    ----------
    encoder
        Whose own network stays as it was.
    model
        The trained network.
    """

    encoder: NeighborhoodEncoder
    model: CenterPredictor


class TunableNeighborhoods:
    """Slices as a `NeighborhoodEncoder` reads them; see `stgraph.tasks.tunable.Tunable`.

    Neighbours are those of the whole slice, whoever is learnt from: a model will be used on whole slices.

    Parameters
    ----------
    encoder
        Fitted without labels; its network is not changed.
    slices
        By name.
    names
        Of those that are needed.
    random_state
        Seed of the order of cells.
    """

    def __init__(
        self, encoder: NeighborhoodEncoder, slices: Mapping[str, AnnData], names: Iterable[str], random_state: int
    ) -> None:
        self.encoder, self.random_state = encoder, random_state
        self.slices = {name: slices[name] for name in dict.fromkeys(names)}
        self._cells: dict[str, NeighborhoodSequences] = {}

    def read(self, truth: Truth) -> NDArray[np.floating]:
        """Embeddings of the known cells."""
        labelled = self._labelled(truth)
        return embed_neighborhoods(self.encoder.network, labelled, max_tokens=self.encoder.budget(labelled.lengths))

    def begin(self, out_channels: int, head_channels: Sequence[int], dropout: float) -> TunedNeighborhoods:
        """A copy of the network with a drawn head."""
        model = CenterPredictor(out_channels, deepcopy(self.encoder.network), head_channels, dropout).eval()
        return TunedNeighborhoods(self.encoder, model)

    def data(self, truth: Truth) -> SampledBatches:
        """Batches of known cells, put together as the encoder puts all."""
        labelled = self._labelled(truth)
        sampler = self.encoder.batching(
            cast(Any, labelled),
            [self.slices[name].obsm[_keys.SPATIAL][known(y)] for name, y in truth.items()],
            max_tokens=self.encoder.budget(labelled.lengths),
            max_cells=self.encoder.max_cells,
            random_state=self.random_state,
        )
        return SampledBatches(labelled, sampler)

    def said(self, tuned: Tuned, truth: Truth) -> NDArray[np.floating]:
        """What the trained network says of the known cells."""
        labelled = self._labelled(truth)
        return embed_neighborhoods(tuned.model, labelled, max_tokens=self.encoder.budget(labelled.lengths))

    def predict(self, tuned: Tuned, adata: AnnData) -> NDArray[np.floating]:
        """What it says of all cells of a slice."""
        return self.encoder.apply(tuned.model, adata)

    def _labelled(self, truth: Truth) -> LabelledNeighborhoods:
        """The known cells of the slices of a truth."""
        key = "\n".join(truth)
        if key not in self._cells:
            self._cells[key] = self.encoder.sequences([self.slices[name] for name in truth])
        return LabelledNeighborhoods(self._cells[key], list(truth.values()))
