import pytest
import torch

from stgraph.testing.edge_attention import EdgeAttentionContract

pytest.importorskip("dgl", exc_type=ImportError)


class TestDGL(EdgeAttentionContract):
    backend = "dgl"
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    fullgraph = False
