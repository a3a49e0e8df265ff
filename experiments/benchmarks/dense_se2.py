"""SToFM's SE(2) transformer as it is specified: all pairs, dense, in plain torch. What ours is measured against.

N x N x K Gaussians, a pair state of N x N x H that passes from layer to layer, post-norm layers; the modules are named
as in the published state dict. Written from a specification, and held to the published outputs by `check_golden`.

    python experiments/benchmarks/dense_se2.py ../shared/data/golden
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CELL, CLASS, VIRTUAL, PADDING = range(4)
"""Kinds of nodes."""
MASK_VALUE = -100.0
"""Every feature of a masked cell."""
FAR = 100.0
"""The distance of cells that are no neighbours."""


class Gaussian(nn.Module):
    """Bias of each head from the distance of each pair."""

    def __init__(self, heads: int, num_kernels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.means = nn.Embedding(1, num_kernels)
        self.stds = nn.Embedding(1, num_kernels)
        self.proj = nn.Sequential(nn.Linear(num_kernels, num_kernels), nn.ReLU(), nn.Linear(num_kernels, heads))
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        nn.init.uniform_(self.means.weight, 0, 3)
        nn.init.uniform_(self.stds.weight, 0, 3)
        for layer in (self.proj[0], self.proj[2]):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, distance: Tensor) -> Tensor:
        """(B, H, N, N) from (B, N, N)."""
        place = self.linear(distance[..., None])
        std = self.stds.weight[0].abs() + 1e-5
        kernel = torch.exp(-0.5 * ((place - self.means.weight[0]) / std) ** 2) / (math.sqrt(2 * math.pi) * std)
        bias = self.proj(kernel.to(self.proj[0].weight.dtype))
        return bias.masked_fill((distance == 0)[..., None], 0.0).permute(0, 3, 1, 2)


class SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(channels, channels) for _ in range(4))
        for layer in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.xavier_uniform_(layer.weight, gain=1 / math.sqrt(2))
        nn.init.xavier_uniform_(self.out_proj.weight)

    def forward(self, x: Tensor, pair: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """New states, and the logits, with 0 where the key is padding: the next pair state."""
        batch, n, channels = x.shape
        q, k, v = (
            layer(x).view(batch, n, self.heads, -1).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = (q * (channels // self.heads) ** -0.5) @ k.transpose(2, 3) + pair
        hidden = padding[:, None, None, :]
        weight = F.dropout(scores.masked_fill(hidden, -torch.inf).softmax(dim=-1), self.dropout, self.training)
        out = (weight.to(v.dtype) @ v).transpose(1, 2).reshape(batch, n, channels)
        return self.out_proj(out), scores.masked_fill(hidden, 0.0)


class Layer(nn.Module):
    def __init__(self, channels: int, ffn_channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.self_attn = SelfAttention(channels, heads, dropout)
        self.self_attn_layer_norm = nn.LayerNorm(channels)
        self.fc1, self.fc2 = nn.Linear(channels, ffn_channels), nn.Linear(ffn_channels, channels)
        self.final_layer_norm = nn.LayerNorm(channels)
        for layer in (self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, pair: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        attended, pair = self.self_attn(x, pair, padding)
        x = self.self_attn_layer_norm(x + F.dropout(attended, self.dropout, self.training))
        inner = F.dropout(F.gelu(self.fc1(x)), self.dropout, self.training)
        return self.final_layer_norm(x + F.dropout(self.fc2(inner), self.dropout, self.training)), pair


class Encoder(nn.Module):
    def __init__(self, layers: int, channels: int, ffn_channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(channels, ffn_channels, heads, dropout) for _ in range(layers))

    def forward(self, x: Tensor, pair: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            x, pair = layer(x, pair, padding)
        return x, pair


class DenseSE2(nn.Module):
    """The published model, 4 layers of 256 channels by default: the released size."""

    def __init__(
        self,
        input_dim: int = 256,
        embedding_dim: int = 256,
        num_hidden_layers: int = 4,
        ffn_embedding_dim: int = 256,
        num_attention_heads: int = 8,
        gaussian_hidden_dim: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.embedding_layer = nn.Linear(input_dim, embedding_dim)
        self.token_type_embeddings = nn.Embedding(4, embedding_dim)
        for layer in (self.embedding_layer, self.token_type_embeddings):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.embedding_layer.bias)
        self.gaussian = Gaussian(num_attention_heads, gaussian_hidden_dim)
        self.encoder = Encoder(num_hidden_layers, embedding_dim, ffn_embedding_dim, num_attention_heads, dropout)

    def forward(self, x: Tensor, distance: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, N, C) and pair states (B, N, N, H) from features (B, N, F), distances (B, N, N), kinds (B, N)."""
        x = self.embedding_layer(x) + self.token_type_embeddings(kind)
        x, pair = self.encoder(F.dropout(x, self.dropout, self.training), self.gaussian(distance), kind == PADDING)
        return x, pair.permute(0, 2, 3, 1)


class DenseForPretraining(nn.Module):
    """The model and its two heads."""

    def __init__(self, model: DenseSE2, channels: int = 256, heads: int = 8) -> None:
        super().__init__()
        self.model = model
        self.lm_head = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.pair_head = nn.Sequential(nn.Linear(heads, heads), nn.ReLU(), nn.Linear(heads, 1))

    def forward(
        self, x: Tensor, distance: Tensor, kind: Tensor, spoilt: Tensor, hidden: Tensor, true: Tensor, judged: Tensor
    ) -> Tensor:
        """Loss: 1 - cosine for the ``hidden`` cells (B, N), and the squared error of the lengths of ``judged`` pairs.

        Of the hidden cells, those that are ``spoilt`` (B, N) are shown as `MASK_VALUE`, the others as they are.
        ``true`` lengths and ``judged`` are (B, N, N).
        """
        states, pair = self.model(torch.where(spoilt[..., None], MASK_VALUE, x), distance, kind)
        cells = 1 - F.cosine_similarity(self.lm_head(states[hidden]).float(), x[hidden])
        lengths = self.pair_head(pair)[..., 0][judged]
        return cells.mean() + F.mse_loss(lengths.float(), true[judged])


def check_golden(folder: Path) -> float:
    """Largest difference from the published outputs; a ValueError beyond 1e-5."""
    sizes = json.loads((folder / "stofm_se2_random.json").read_text())
    model = DenseSE2(**sizes).eval()
    model.load_state_dict(load_file(folder / "stofm_se2_random.safetensors"))
    with np.load(folder / "stofm_se2_random.npz") as arrays:
        given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        states, pair = model(given["token_embeddings"], given["distances"], given["token_types"])
    real = given["token_types"] != PADDING
    both = real[:, :, None] & real[:, None, :]
    error = max(
        float((states - given["last_hidden_state"])[real].abs().max()),
        float((pair - given["pair_state"])[both].abs().max()),
    )
    if error > 1e-5:
        raise ValueError(f"The dense implementation is {error:.1e} from the published outputs: it is wrong, not timed.")
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder of stofm_se2_random.*")
    print(f"largest difference: {check_golden(parser.parse_args().golden):.1e}")
