"""Transforms of data that draw random numbers of their own, and where they are with that."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from stgraph.data.transforms import RandomTransform

_HOLDERS = ("dataset", "transform", "transforms")
"""Under which names batches hold a data set, it its transform, and a `torch_geometric.transforms.Compose` several."""


def random_transforms(batches: Any) -> list[RandomTransform]:
    """The transforms of the data of these batches that draw random numbers.

    A function that calls one, or a transform of your own that holds one under another name, is not looked into.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.parts import PartDataset
    >>> from stgraph.data.transforms import MaskCells
    >>> from stgraph.partition.spatial import CoordinateBisection
    >>> from stgraph.training.batches import PartBatches
    >>> from stgraph.training.random_transforms import random_transforms
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> parts = PartDataset([graph], CoordinateBisection(100), transform=MaskCells())
    >>> [type(transform).__name__ for transform in random_transforms(PartBatches(parts))]
    ['MaskCells']
    """
    found: dict[int, RandomTransform] = {}
    seen: set[int] = set()
    waiting = [batches]
    while waiting:
        holder = waiting.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        if isinstance(holder, RandomTransform):
            found[id(holder)] = holder
        elif isinstance(holder, list | tuple):
            waiting += reversed(holder)
        else:
            waiting += [getattr(holder, name) for name in reversed(_HOLDERS) if hasattr(holder, name)]
    return list(found.values())


@contextmanager
def as_at_first(batches: Any) -> Iterator[None]:
    """Within, transforms draw what they draw first; after, they are where they were."""
    transforms = random_transforms(batches)
    before = [transform.__getstate__() for transform in transforms]
    for transform in transforms:
        transform.restart()
    try:
        yield
    finally:
        for transform, state in zip(transforms, before, strict=True):
            transform.__setstate__(state)


def generator_states(batches: Any) -> dict[str, Tensor]:
    """Where transforms are, by a name each."""
    return {f"transform_{i}": each.generator.get_state() for i, each in enumerate(random_transforms(batches))}


def restore_generators(batches: Any, states: dict[str, Tensor]) -> None:
    """Bring transforms to where `generator_states` found them."""
    for i, transform in enumerate(random_transforms(batches)):
        transform.generator.set_state(states[f"transform_{i}"].to(torch.uint8))
