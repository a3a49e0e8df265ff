import pytest
import torch

from stgraph.testing.edge_attention import EdgeAttentionContract

pytest.importorskip("torch_scatter", exc_type=ImportError)


class TestTorchScatter(EdgeAttentionContract):
    backend = "torch-scatter"
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    fullgraph = False
