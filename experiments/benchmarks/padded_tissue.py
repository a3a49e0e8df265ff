"""AIDO.Tissue's encoder as it was released, in plain torch: dense vectors, padded batches. What ours is beside.

A sample is the counts of the centre and of its k neighbours as one dense vector of (k + 1) x 19,264 numbers; values are
computed on all of it, those above zero are gathered, and sequences are padded to the longest of the batch, rounded up
to a multiple of 16. Written from a specification, and held to the published outputs by `check_golden`. It is kinder
than the release where that changes no number: tokens are gathered at once rather than three times, no attention mask is
made (the release makes one and ignores it), and attention is torch's fused one, on any device.

    python experiments/benchmarks/padded_tissue.py ../shared/data/golden
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

GENES = 19_264
PAD = GENES + 2
"""Gene of a padding token; the two before are the depth tokens."""
PAD_VALUE, MASK_VALUE = -2.0, -1.0
DEPTH_FLOOR, TARGET, CLIP = 5.0, 10_000.0, 20.0
BASE = 10_000.0


def dense_samples(counts: Any, table: NDArray[np.int64], cells: NDArray[np.int64]) -> Tensor:
    """(B, (k + 1) x GENES) float32: each cell and its neighbours, row by row of CSR counts, in memory or on disk."""
    return torch.stack(
        [torch.from_numpy(np.concatenate([counts[cell].toarray()[0] for cell in table[cell]])) for cell in cells]
    ).float()


class Tokens(NamedTuple):
    """What the network reads, each (B, L); of padding the value is -2, and gene and slot are 19,266."""

    value: Tensor
    gene: Tensor
    slot: Tensor


def process(samples: Tensor, values: torch.dtype = torch.bfloat16) -> Tokens:
    """Values from counts (B, (k + 1) x GENES), with the release's sum over the whole batch, and padded tokens."""
    batch = len(samples)
    slots = []
    for counts in samples.to(values).view(batch, -1, GENES).unbind(1):
        total = counts.sum()
        depth = total.log10().clamp(min=DEPTH_FLOOR).expand(batch, 2)
        slots.append(torch.cat([(counts / total * TARGET).log1p(), depth], dim=1).clamp(max=CLIP))
    full = torch.cat(slots, dim=1)
    there = full > 0
    length = -(-int(there.sum(1).max()) // 16) * 16
    row, column = there.nonzero(as_tuple=True)
    place = there.cumsum(1)[row, column] - 1
    out = Tokens(
        torch.full((batch, length), PAD_VALUE, dtype=full.dtype),
        torch.full((batch, length), PAD),
        torch.full((batch, length), PAD),
    )
    out.value[row, place] = full[row, column]
    out.gene[row, place] = column % (GENES + 2)
    out.slot[row, place] = column // (GENES + 2)
    return out


class RMSNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), 1e-5)


class SoftBins(nn.Module):
    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(1, bins), nn.Linear(bins, bins)
        self.lookup_table = nn.Embedding(bins, channels)
        self.mask_embedding, self.pad_embedding = nn.Embedding(1, channels), nn.Embedding(1, channels)

    def forward(self, value: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.linear1(value[..., None]), 0.1)
        found = (hidden + self.linear2(hidden)).softmax(-1) @ self.lookup_table.weight
        found = torch.where((value == MASK_VALUE)[..., None], self.mask_embedding.weight[0].to(found.dtype), found)
        return torch.where((value == PAD_VALUE)[..., None], self.pad_embedding.weight[0].to(found.dtype), found)


def angles(place: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, 1, L, width) of one axis."""
    rate = BASE ** -(torch.arange(0, width, 2, device=place.device) / width)
    angle = place[:, None, :, None] * rate
    return torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()


def rotated(x: Tensor, axes: list[tuple[Tensor, Tensor]], padding: Tensor) -> Tensor:
    """x (B, H, L, D): each half by one axis; padding becomes zero."""
    halves = []
    for half, (cos, sin) in zip(x.chunk(2, dim=-1), axes, strict=True):
        first, second = half.chunk(2, dim=-1)
        halves.append(half * cos + torch.cat([-second, first], dim=-1) * sin)
    return torch.cat(halves, dim=-1).masked_fill(padding[:, None, :, None], 0.0).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, channels: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.heads = heads
        projections = {name: nn.Linear(channels, channels) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict(
            {
                "ln": RMSNorm(channels),
                "self": nn.ModuleDict(projections),
                "output": nn.ModuleDict({"dense": nn.Linear(channels, channels)}),
            }
        )
        self.ln = RMSNorm(channels)
        self.mlp = nn.ModuleDict(
            {
                "up_proj": nn.Linear(channels, ffn),
                "gate_proj": nn.Linear(channels, ffn),
                "down_proj": nn.Linear(ffn, channels),
            }
        )

    def forward(self, x: Tensor, axes: list[tuple[Tensor, Tensor]], padding: Tensor) -> Tensor:
        n = self.attention["ln"](x)
        q, k, v = (
            self.attention["self"][name](n).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        q, k = rotated(q, axes, padding), rotated(k, axes, padding)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attention["output"]["dense"](attended)
        n = self.ln(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](n)) * self.mlp["up_proj"](n))


class PaddedTissue(nn.Module):
    """The released encoder, 3M by default, with the names of its state dict."""

    def __init__(self, channels: int = 128, layers: int = 4, heads: int = 2, ffn: int = 512, bins: int = 100) -> None:
        super().__init__()
        self.heads = heads
        self.gene_embedding = SoftBins(channels, bins)
        self.position_embedding = nn.Embedding(PAD + 1, channels)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(channels, heads, ffn) for _ in range(layers)), "ln": RMSNorm(channels)}
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tokens) -> Tensor:
        """States (B, L, C) of all tokens."""
        value = tokens.value.to(self.position_embedding.weight.dtype)
        x = self.gene_embedding(value) + self.position_embedding(tokens.gene)
        width = x.shape[-1] // self.heads // 2
        axes = [tuple(t.to(x.dtype) for t in angles(place.float(), width)) for place in (tokens.gene, tokens.slot)]
        padding = tokens.gene == PAD
        for layer in self.encoder["layer"]:
            x = layer(x, axes, padding)
        return self.encoder["ln"](x)

    def embed(self, tokens: Tokens) -> Tensor:
        """(B, C) the largest state of the tokens of the centre, channel by channel: the depth tokens count."""
        return self(tokens).masked_fill((tokens.slot != 0)[..., None], -torch.inf).amax(1)


def check_golden(folder: Path) -> float:
    """Largest difference from the published states; a ValueError beyond 1e-4, or where a token differs."""
    with np.load(folder / "aido_tissue_3m_random.npz") as arrays:
        given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    shape = given["shape"].tolist()
    samples = torch.zeros(shape)
    samples[tuple(given["count_index"].long().T)] = given["count_value"]
    tokens = process(samples.flatten(1))
    expected = Tokens(given["token_value"], given["gene_id"].long(), given["cell_index"].long())
    for name in Tokens._fields:
        if not torch.equal(getattr(tokens, name).to(getattr(expected, name).dtype), getattr(expected, name)):
            raise ValueError(f"Tokens of the padded implementation differ in their {name}: it is wrong, not timed.")
    model = PaddedTissue().eval()
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "aido_tissue_3m_random.safetensors").items()})
    with torch.no_grad():
        difference = (model(tokens) - given["last_hidden_state"])[tokens.gene != PAD]
        pooled = model.embed(tokens) - given["centre_max_pool"]
    error = max(float(difference.abs().max()), float(pooled.abs().max()))
    if error > 1e-4:
        raise ValueError(f"The padded implementation is {error:.1e} from the published states: it is wrong, not timed.")
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder of aido_tissue_3m_random.*")
    print(f"largest difference: {check_golden(parser.parse_args().golden):.1e}")
