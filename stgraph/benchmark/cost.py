"""Seconds and memory of a call, and the size of a model."""

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class Took:
    """What a call took.

    Attributes
    ----------
    seconds
        Wall time.
    extra_bytes
        By how much it raised the memory this process holds, at its highest; NaN where the
        system does not tell.
    """

    seconds: float
    extra_bytes: float


def measured(call: Callable[[], _T]) -> tuple[_T, Took]:
    """What a call gives, and what it took.

    Memory is what Linux tells of the whole process, so other threads that work at the
    same time count too.

    Parameters
    ----------
    call
        Without arguments.

    Returns
    -------
    result
        What it gave.
    Took
        Time and memory.

    Examples
    --------
    >>> from stgraph.benchmark.cost import measured
    >>> result, took = measured(lambda: sum(range(1000)))
    >>> result, took.seconds >= 0
    (499500, True)
    """
    before = _forget_highest()
    begin = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - begin
    return result, Took(seconds, _resident("VmHWM") - before)


def num_parameters(encoder: object) -> float:
    """Number of weights of a fitted encoder of slices.

    Parameters
    ----------
    encoder
        One that says ``num_parameters``, or has a network inside: ``network``, or the model of a
        `stgraph.tasks.learned.ModelEncoder`.

    Returns
    -------
    float
        NaN for any other, such as principal components.

    Examples
    --------
    >>> from stgraph.benchmark.cost import num_parameters
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> num_parameters(LogPCA())
    nan
    """
    said = getattr(encoder, "num_parameters", None)
    if said is not None:
        return float(said)
    inside = (getattr(encoder, "network", None), getattr(getattr(encoder, "pretrained", None), "model", None))
    network = next((each for each in inside if each is not None), None)
    return float("nan") if network is None else float(sum(weight.numel() for weight in network.parameters()))


def _forget_highest() -> float:
    """Start a new highest of resident memory; what is held now."""
    gc.collect()
    if sys.platform != "linux":
        return float("nan")
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):  # no glibc, or not allowed
        return float("nan")
    return _resident("VmRSS")


def _resident(what: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return 1024.0 * next((int(line.split()[1]) for line in lines if line.startswith(what)), float("nan"))
