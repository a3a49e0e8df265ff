"""Descriptions of slices that are computed once, and what they cost."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._files import atomic_path
from stgraph.baselines.advice import WHOLE, HasViews, copies_of, views_of
from stgraph.baselines.base import SliceEncoder
from stgraph.benchmark.cost import measured, num_parameters
from stgraph.tasks.unlabelled import fingerprint

SLOW = 5.0
"""Seconds above which a description is kept on disk: what is faster is cheaper to make again than to store."""

HELD_BYTES = 1_000_000_000
"""Descriptions held in memory, at most; the oldest are let go."""


@dataclass(frozen=True)
class Cost:
    """What fitting and describing took.

    Attributes
    ----------
    fit_seconds, transform_seconds
        Wall time.
    fit_bytes
        Memory by which fitting raised what the process held, at its highest; NaN where the
        system does not tell.
    n_fitted, n_described
        Cells.
    num_parameters
        Weights that were trained; NaN where the encoder does not tell, see
        `stgraph.benchmark.cost.num_parameters`.
    """

    fit_seconds: float = 0.0
    transform_seconds: float = 0.0
    fit_bytes: float = float("nan")
    n_fitted: int = 0
    n_described: int = 0
    num_parameters: float = float("nan")


class Kept:
    """An encoder whose descriptions are kept, in memory and, if they are slow, on disk.

    It is fitted only when a description is asked for that is not kept. Slices are known
    by their counts, genes and positions: labels do not matter, for an encoder looks at none.

    Parameters
    ----------
    make
        Makes the encoder.
    name
        What decides the encoder, seed included.
    folder
        Where slow descriptions are kept.
    """

    def __init__(self, make: Callable[[], SliceEncoder], name: str, folder: Path) -> None:
        self._make, self._name, self._folder = make, name, folder
        self._fitted: OrderedDict[str, tuple[SliceEncoder, Cost]] = OrderedDict()
        self._held: OrderedDict[str, tuple[NDArray[np.float32], Cost]] = OrderedDict()
        self._slices: list[AnnData] = []
        self._now = ""
        self._views: dict[str, tuple[dict[str, slice], str]] = {}
        self.used: dict[str, Cost] = {}
        """Cost of each description that was asked for since this was last emptied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy may be fitted on other slices; what is kept, and what was used, is one for all.
        return copy(self)

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Note what is to be fitted on."""
        self._slices = list(slices)
        self._now = _hash(self._name, *(fingerprint(adata) for adata in slices))
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of a slice."""
        key = _hash(self._now, fingerprint(adata))
        if key not in self._held:
            self._held[key] = self._load(key) or self._describe(key, adata)
            while sum(x.nbytes for x, _ in self._held.values()) > HELD_BYTES and len(self._held) > 1:
                self._held.popitem(last=False)
        x, self.used[key] = self._held[key]
        return x

    @property
    def unguided(self) -> str:
        """As of the encoder."""
        return self._views[self._now][1] if self._now in self._views else WHOLE

    def views(self) -> dict[str, slice]:
        """As of the encoder, once a slice was described."""
        return self._views[self._now][0] if self._now in self._views else {WHOLE: slice(None)}

    def copies(self, adata: AnnData) -> list[AnnData]:
        """As of the encoder."""
        return copies_of(self._make(), adata)

    def _describe(self, key: str, adata: AnnData) -> tuple[NDArray[np.float32], Cost]:
        if self._now not in self._fitted:
            encoder, took = measured(lambda: deepcopy(self._make()).fit(self._slices))
            self._fitted[self._now] = (
                encoder,
                Cost(
                    took.seconds,
                    fit_bytes=took.extra_bytes,
                    n_fitted=sum(a.n_obs for a in self._slices),
                    num_parameters=num_parameters(encoder),
                ),
            )
            while len(self._fitted) > 4:
                self._fitted.popitem(last=False)
        encoder, cost = self._fitted[self._now]
        begin = perf_counter()
        x = np.asarray(encoder.transform(adata), dtype=np.float32)
        unguided = encoder.unguided if isinstance(encoder, HasViews) else WHOLE
        self._views[self._now] = (views_of(encoder), unguided)
        cost = replace(cost, transform_seconds=perf_counter() - begin, n_described=adata.n_obs)
        if cost.fit_seconds + cost.transform_seconds > SLOW:
            self._save(key, x, cost)
        return x, cost

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"

    def _save(self, key: str, x: NDArray[np.float32], cost: Cost) -> None:
        with atomic_path(self._path(key)) as tmp, tmp.open("wb") as file:
            views, unguided = self._views[self._now]
            ends = {name: [view.start, view.stop] for name, view in views.items()}
            about = {"cost": asdict(cost), "views": ends, "unguided": unguided}
            np.savez(file, x=x, about=np.array(json.dumps(about)))

    def _load(self, key: str) -> tuple[NDArray[np.float32], Cost] | None:
        if not self._path(key).is_file():
            return None
        with np.load(self._path(key), allow_pickle=False) as file:
            x, about = file["x"], json.loads(str(file["about"]))
        views = {name: slice(first, last) for name, (first, last) in about["views"].items()}
        self._views[self._now] = (views, about["unguided"])
        return x, Cost(**about["cost"])


def _hash(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()
