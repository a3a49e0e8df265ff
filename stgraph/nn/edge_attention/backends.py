"""Which backends there are, which of them run here, and which one is taken."""

import functools
import importlib.util
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from stgraph.nn.edge_attention.graph import EdgeGraph

Backend = Literal["auto", "reference", "fused-cpu", "triton", "dgl", "torch-scatter", "dense"]
"""``"auto"``, or the name of one."""

_NEEDS: dict[str, tuple[str, ...]] = {
    "reference": (),
    "fused-cpu": (),
    "triton": ("triton",),
    "dgl": ("dgl",),
    "torch-scatter": ("torch_scatter",),
    "dense": (),
}
"""Of each backend, the packages it needs beside ours."""


def missing(backend: str) -> list[str]:
    """Packages that a backend needs and that are not installed.

    Parameters
    ----------
    backend
        Name of one.

    Returns
    -------
    list of str
        Names to import them by; none if it can run.

    Raises
    ------
    ValueError
        If there is no such backend.

    Examples
    --------
    >>> from stgraph.nn.edge_attention.backends import missing
    >>> missing("fused-cpu")
    []
    """
    if backend not in _NEEDS:
        raise _unknown(backend)
    return [name for name in _NEEDS[backend] if importlib.util.find_spec(name) is None]


def check_backend(backend: str) -> None:
    """Refuse what is neither ``"auto"`` nor a backend, whether or not it runs here.

    Parameters
    ----------
    backend
        Name of one, for a layer that keeps it.

    Raises
    ------
    ValueError
        If there is no such backend.

    Examples
    --------
    >>> from stgraph.nn.edge_attention.backends import check_backend
    >>> check_backend("triton")
    """
    if backend not in get_args(Backend):
        raise _unknown(backend)


def _unknown(backend: str) -> ValueError:
    return ValueError(
        f"There is no backend {backend!r} of edge_attention; there are {', '.join(map(repr, get_args(Backend)))}."
    )


def backend_for(dtype: torch.dtype, graph: EdgeGraph) -> str:
    """What ``"auto"`` takes.

    All pairs of a part are what dense products are for. Otherwise it is the fused kernel of the device; float64, and
    a GPU without Triton, are left to the reference.

    Parameters
    ----------
    dtype
        Of queries, keys and values.
    graph
        Of the attention.

    Returns
    -------
    str
        Name of a backend.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.edge_attention import EdgeGraph
    >>> from stgraph.nn.edge_attention.backends import backend_for
    >>> every = EdgeGraph.complete([3], torch.zeros(9), torch.zeros(9, dtype=torch.long))
    >>> backend_for(torch.float32, every)
    'dense'
    """
    if graph.blocks is not None:
        return "dense"
    if dtype == torch.float64:
        return "reference"
    if graph.col.device.type == "cpu":
        return "fused-cpu"
    return "reference" if graph.col.device.type != "cuda" or not _installed("triton") else "triton"


def run(
    backend: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    graph: EdgeGraph,
    *,
    dropout: float,
    seed: Tensor,
    need_logits: bool = True,
) -> tuple[Tensor, Tensor]:
    """Attend with one backend, which is imported now: output (N, H, D) and logits (E, H).

    Parameters
    ----------
    backend
        Name of one.
    q, k, v, bias, graph, dropout
        As for `stgraph.nn.edge_attention.edge_attention`; the first three of one type.
    seed
        Of the dropout, a scalar int64 on the CPU.
    need_logits
        Whether the logits are read; if not, they may be of no edge.

    Returns
    -------
    tuple of Tensor
        Output in the type of ``v``, logits in float32 or float64.

    Raises
    ------
    ValueError
        If there is no such backend, or what it needs is not installed.
    """
    if not _installed(backend):
        raise ValueError(
            f"The backend {backend!r} of edge_attention needs {' and '.join(missing(backend))}, not installed here: "
            "'stgraph doctor' tells what there is, and 'auto' takes the best of it."
        )
    # Only the dense backend saves work without logits.
    options = {} if need_logits or backend != "dense" else {"need_logits": False}
    return _function(backend)(q, k, v, bias, graph, dropout=dropout, seed=seed, **options)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _installed(backend: str) -> bool:
    """Whether nothing is missing; `torch.compile` asks once and does not look inside."""
    return _found(backend)


@functools.cache
def _found(backend: str) -> bool:
    return not missing(backend)


def _function(backend: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Import what attends, by statements that `torch.compile` understands."""
    if backend == "fused-cpu":
        from stgraph.nn.edge_attention.fused_cpu import fused_cpu as attend  # noqa: PLC0415  compiles
    elif backend == "triton":
        from stgraph.nn.edge_attention.triton import triton_attention as attend  # noqa: PLC0415  an optional extra
    elif backend == "dgl":
        from stgraph.nn.edge_attention.dgl import dgl_attention as attend  # noqa: PLC0415  an optional extra
    elif backend == "torch-scatter":
        from stgraph.nn.edge_attention.torch_scatter import torch_scatter_attention as attend  # noqa: PLC0415  the same
    elif backend == "dense":
        from stgraph.nn.edge_attention.dense import dense as attend  # noqa: PLC0415
    else:
        from stgraph.nn.edge_attention.reference import reference as attend  # noqa: PLC0415
    return attend
