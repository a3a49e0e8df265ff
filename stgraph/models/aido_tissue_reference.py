"""AIDO.Tissue as its release computes it, padding and all: to reproduce what was published."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.neighborhood_network import NeighborhoodStates
from stgraph.nn.rotary import rotation

PAD_VALUE = -2.0
"""Value of padding in the release."""

_MULTIPLE = 16


class PaddedTokens(NamedTuple):
    """A batch as the release has it: as many tokens for each sequence, a multiple of 16.

    Attributes
    ----------
    value
        (S, L) float32, -2 where there is padding.
    gene
        (S, L) int64, G + 2 there.
    slot
        (S, L) int64, G + 2 there.
    """

    value: Tensor
    gene: Tensor
    slot: Tensor


class AIDOTissueReference(AIDOTissue):
    """An `AIDOTissue`, of the same arguments and weights, with the forward pass of the release.

    All sequences are padded to the longest, up to a multiple of 16, and **padding is attended to**: its queries and
    keys are zero, which is a logit like others, and its values are whatever its states have become. So what a cell
    gives depends on the batch it is in. For the values of the release too, give it batches of
    `stgraph.data.depth_values.BatchDepth`: in a run,
    ``encoder.model._target_=stgraph.models.aido_tissue_reference.AIDOTissueReference`` and
    ``encoder.depth._target_=stgraph.data.depth_values.BatchDepth``. It is there for published fine-tunes, and to show
    what that costs; anything else is better served by `AIDOTissue`.

    Parameters
    ----------
    num_genes, hidden_channels, num_layers, heads, ffn_channels, num_bins, norm, pooling
        As for `AIDOTissue`.
    decoder_layers, decoder_heads, decoder_channels, decoder_ffn_channels, decoder_zeros
        The same; the decoder reads no padding, and is as there.
    dropout, licence
        The same.

    Shapes
    ------
    As for `AIDOTissue`.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.data.neighborhood_batch import NeighborhoodBatch
    >>> from stgraph.models.aido_tissue_reference import AIDOTissueReference
    >>> cells = CellBatch(torch.tensor([2, 3, 3]), torch.tensor([0, 2, 3]), torch.tensor([0, 1]), torch.rand(3))
    >>> near, far = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0.0, 9.0], [0.0, 9.0]])
    >>> batch = NeighborhoodBatch(cells, near, far, torch.tensor([0, 0]), (torch.arange(5),))
    >>> reference = AIDOTissueReference(5, hidden_channels=16, num_layers=2, ffn_channels=32)
    >>> reference.pad(batch).gene
    tensor([[2, 3, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
            [3, 2, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]])
    >>> reference.embed(batch).shape
    torch.Size([2, 16])
    """

    def forward(self, batch: NeighborhoodBatch) -> NeighborhoodStates:
        """States of the tokens of the centres, and their embeddings."""
        padded = self.pad(batch)
        is_center = padded.slot == 0
        token = self.hidden_states(padded)[is_center]
        offsets = F.pad(is_center.sum(dim=1).cumsum(0), (1, 0))
        return NeighborhoodStates(token, offsets, self.pool(token, offsets, padded.gene[is_center]))

    def pad(self, batch: NeighborhoodBatch) -> PaddedTokens:
        """The tokens of all sequences as the release has them.

        Raises
        ------
        InputError
            If the cells have no values.
        """
        packed, cells = batch.pack(), batch.unique
        if cells.values is None:
            raise InputError("AIDOTissueReference reads values: tokenise the cells with their values.")
        longest = int(packed.lengths.max()) if batch.num_cells else 0
        shape = (batch.num_cells, -(-longest // _MULTIPLE) * _MULTIPLE)
        place = torch.arange(packed.num_tokens, device=packed.source.device)
        at = (packed.row_of_token, place - packed.offsets[packed.row_of_token])
        pad = self.num_genes + 2
        gene = cells.tokens.new_full(shape, pad).index_put(at, cells.tokens[packed.source])
        value = cells.values.new_full(shape, PAD_VALUE).index_put(at, cells.values[packed.source])
        return PaddedTokens(value, gene, packed.slot.new_full(shape, pad).index_put(at, packed.slot))

    def hidden_states(self, padded: PaddedTokens) -> Tensor:
        """(S, L, C) after the last layer, those of padding too."""
        s, length = padded.gene.shape
        value, gene, slot = (tensor.flatten() for tensor in padded)
        is_pad = (value == PAD_VALUE)[:, None]
        of_value = torch.where(is_pad, self.gene_embedding.pad_vector, self.gene_embedding(value))
        x = of_value + self.position_embedding(gene)
        # Turned by nothing and shrunk to nothing: queries and keys of padding are zero
        turned = rotation(gene, slot, self.hidden_channels // self.heads).masked_fill(is_pad, 0.0)
        for layer in self.layers:
            x = layer(x, ((s, length, length),), turned)
        out: Tensor = self.encoder["ln"](x)
        return out.view(s, length, -1)
