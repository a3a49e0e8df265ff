"""A network of neighbourhoods whose embedding of the centre has to tell hidden genes by itself."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stgraph._config import instantiate
from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.models.neighborhood_network import NeighborhoodNetwork, NeighborhoodStates


class CenterTeller(NeighborhoodNetwork):
    """Any network of neighbourhoods, and a small head that tells values of genes from the embedding of the centre.

    Masked columns train the states of genes; the embedding, a maximum over them, is read by no loss, so that training
    need not make it better, and on little tissue makes it worse. Here it is asked for values itself: of gene g it says
    ``q_g . f(center) + b_g``, with a linear map f and a vector and a number of each gene. For
    `stgraph.objectives.columns_from_center.ColumnsFromCenter`; AIDO.Tissue has no such head, scGPT has.

    Parameters
    ----------
    num_genes
        G, of the vocabulary.
    network
        The network, which is not copied; or its config but ``num_genes``.

    Shapes
    ------
    As for the network; `predict_from_center` gives (n,).

    References
    ----------
    Cui et al., scGPT: toward building a foundation model for single-cell multi-omics using generative AI (2024).

    Examples
    --------
    >>> from stgraph.models.center_teller import CenterTeller
    >>> aido = {"_target_": "stgraph.models.aido_tissue.AIDOTissue", "hidden_channels": 16, "num_layers": 1}
    >>> CenterTeller(5, aido).network.num_genes
    5
    """

    _as_configs_: ClassVar = ("network",)

    def __init__(self, num_genes: int, network: NeighborhoodNetwork | Mapping[str, Any]) -> None:
        super().__init__()
        self.num_genes = num_genes
        built = network
        if isinstance(network, Mapping):
            built = instantiate({**network, "num_genes": num_genes})
        if not isinstance(built, NeighborhoodNetwork):
            raise InputError(
                f"CenterTeller needs a NeighborhoodNetwork, or the config of one, not of a {type(built).__name__}."
            )
        if built.num_genes != num_genes:
            raise InputError(f"CenterTeller is of {num_genes} genes, but its network of {built.num_genes}.")
        self.network = built
        self.out_channels = built.out_channels
        self.asked = nn.Embedding(num_genes, self.out_channels)
        self.mean = nn.Embedding(num_genes, 1)
        self.told = nn.Linear(self.out_channels, self.out_channels)
        nn.init.zeros_(self.mean.weight)

    def forward(self, batch: NeighborhoodBatch) -> NeighborhoodStates:
        """States of a batch, as the network gives them."""
        states: NeighborhoodStates = self.network(batch)
        return states

    def predict_hidden(self, states: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """(n,) values of the hidden genes, as the network does."""
        return self.network.predict_hidden(states, batch)

    def predict_from_center(self, states: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """(n,) values of the hidden genes, from the embedding of the centre and the gene alone.

        Raises
        ------
        InputError
            If no genes of the batch are hidden.
        """
        if batch.hidden is None:
            raise InputError("No genes of this batch are hidden, so that there are none to predict.")
        row, gene = batch.hidden.row, batch.hidden.gene
        told: Tensor = self.told(states.center).index_select(0, row)
        values: Tensor = torch.linalg.vecdot(told, self.asked(gene)) / self.out_channels**0.5
        return values + self.mean.weight.index_select(0, gene)[:, 0]
