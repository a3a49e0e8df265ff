import torch

from stgraph.testing.edge_attention import EdgeAttentionContract


class TestDense(EdgeAttentionContract):
    backend = "dense"
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    complete = True
    twice = True
