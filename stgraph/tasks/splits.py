"""The ways to divide a study: cells at random, blocks of tissue, whole slices, or as the user says."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.graph.spacing import median_spacing
from stgraph.metrics.intervals import spatial_blocks
from stgraph.tasks.folds import Fold

TRAIN, VALIDATION, TEST = "train", "validation", "test"
"""What a column that divides cells may say."""


@dataclass(frozen=True)
class RandomCells:
    """Cells drawn at random from each slice: what papers report, and what leaks.

    The neighbours of a judged cell are learnt from, so that a description that looks at
    neighbours scores far too well (0.89 against 0.65 on another slice of cortex). Use it to
    compare with published numbers only.

    Parameters
    ----------
    test_share, validation_share
        Shares of the cells of each slice.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.splits import RandomCells
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]}
    >>> [fold] = RandomCells().folds(slices)
    >>> int(fold.train["a"].sum()), int(fold.validation["a"].sum()), int(fold.test["a"].sum())
    (70, 10, 20)
    """

    test_share: float = 0.2
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        _check_share(self, "test_share")
        _check_share(self, "validation_share")
        if self.test_share + self.validation_share >= 1:
            raise InputError(
                f"RandomCells leaves no cell to learn from: test_share {self.test_share} and validation_share "
                f"{self.validation_share} must be less than 1 together."
            )

    @property
    def name(self) -> str:
        """Name in tables."""
        return "random cells"

    @property
    def leaks(self) -> bool:
        """True: neighbours of judged cells are learnt from."""
        return True

    def folds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> list[Fold]:
        """One fold.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        random_state
            Seed of the draw.

        Returns
        -------
        list of Fold
            Each slice is divided in the same shares, rounded.

        Raises
        ------
        InputError
            If a slice has too few cells for the three kinds.
        """
        rng = np.random.default_rng(random_state)
        kinds: dict[str, NDArray[np.str_]] = {}
        for name, adata in slices.items():
            n = adata.n_obs
            n_test, n_validation = round(n * self.test_share), round(n * self.validation_share)
            if min(n_test, n_validation, n - n_test - n_validation) < 1:
                raise InputError(f"{name} has {n} cells, too few to draw test, validation and training cells of.")
            kind = np.full(n, TRAIN, dtype="U10")
            order = rng.permutation(n)
            kind[order[:n_test]] = TEST
            kind[order[n_test : n_test + n_validation]] = VALIDATION
            kinds[name] = kind
        return [_fold("random", tuple(slices), kinds)]


@dataclass(frozen=True)
class SpatialBlocks:
    """Blocks of tissue that are judged in turn, with a margin of tissue that counts nowhere.

    Each slice is cut by medians of its coordinates into blocks of near-equal numbers of
    cells, and the blocks are dealt to the folds at random. In each fold its blocks judge,
    those of the next fold choose, and the others are learnt from, less the cells that lie
    within ``buffer`` of a judged or choosing one; of the choosing ones, those that lie
    within it of a judged one are left out too. Every cell is judged once.

    The defaults follow two slices of cortex. With 15 blocks and a margin of 4 spacings, means
    over 18 neighbours score a macro F1 of .81 within a slice, .78 on another slice, and .89 on
    random cells; 40 % of the cells are learnt from, and 57 % once settings are chosen. More
    blocks leave fewer cells, fewer blocks leave whole classes without any. On slices of a
    few hundred spots this margin leaves too little: take 2, or judge whole slices.

    Parameters
    ----------
    n_blocks
        Blocks of a slice.
    n_folds
        Folds, 3 at least.
    buffer
        Width of the margin, in spacings: median distances of a cell to its nearest
        neighbour in its slice. At 0 only cells at the very same place are left out.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.splits import SpatialBlocks
    >>> slices = {"a": stgraph.synthetic_tissue(n_cells=300, n_genes=60)[0]}
    >>> folds = SpatialBlocks().folds(slices)
    >>> len(folds), sum(int(fold.test["a"].sum()) for fold in folds)
    (5, 300)
    """

    n_blocks: int = 15
    n_folds: int = 5
    buffer: float = 4.0

    def __post_init__(self) -> None:
        check_whole(self, "n_folds", 3)
        check_whole(self, "n_blocks", self.n_folds)
        _check_not_negative(self, "buffer")

    @property
    def name(self) -> str:
        """Name in tables."""
        return "spatial blocks"

    @property
    def leaks(self) -> bool:
        """False."""
        return False

    def folds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> list[Fold]:
        """The folds.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        random_state
            Seed of which block is in which fold.

        Returns
        -------
        list of Fold
            ``n_folds`` of them, each with blocks of all slices.

        Raises
        ------
        InputError
            If a slice has fewer cells than blocks, or the margin leaves none to learn from.
        """
        rng = np.random.default_rng(random_state)
        positions = {name: _positions(adata) for name, adata in slices.items()}
        dealt = {name: self._deal(name, pos, rng) for name, pos in positions.items()}
        reach = {name: self.buffer * median_spacing(pos) for name, pos in positions.items()}
        folds = []
        for number in range(self.n_folds):
            kinds = {
                name: _with_margin(
                    positions[name], fold == number, fold == (number + 1) % self.n_folds, reach=reach[name]
                )
                for name, fold in dealt.items()
            }
            folds.append(_fold(f"blocks {number}", tuple(slices), kinds))
            for kind, masks in ((TRAIN, folds[-1].train), (VALIDATION, folds[-1].validation)):
                if not masks:
                    raise InputError(
                        f"A margin of {self.buffer:g} spacings leaves no {kind} cell in the slices "
                        f"{', '.join(slices)}: give SpatialBlocks a smaller buffer, or fewer blocks (n_blocks)."
                    )
        return folds

    def _deal(self, name: str, pos: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Fold in which each cell is judged."""
        if len(pos) < self.n_blocks:
            raise InputError(f"{name} has {len(pos)} cells, too few for {self.n_blocks} blocks of SpatialBlocks.")
        block = spatial_blocks(pos, n_blocks=self.n_blocks)
        of_block = rng.permutation(int(block.max()) + 1) % self.n_folds
        return np.asarray(of_block[block], dtype=np.int64)


@dataclass(frozen=True)
class LeaveOneSliceOut:
    """Each slice, animal or donor is judged by what was learnt from the others.

    The judged slices are not looked at before, not even without labels. Serial sections
    are near copies of each other: give ``group_key`` the column that names the animal,
    the donor, or the block of adjacent sections, so that all of them are left out together.
    This is also how a model is asked for "a non-adjacent slice" or "another animal or donor".

    Settings are chosen on a whole slice (or group) of those that are left, drawn at random,
    because it is as foreign to the training cells as the judged one is; a learner may train
    again on both once it has chosen. Only if one slice is left, blocks of it choose, with a
    margin as in `SpatialBlocks`.

    Parameters
    ----------
    group_key
        Column of ``obs``, with one value in each slice, of slices that are left out
        together; None for each slice by itself.
    validation_share
        Share of the blocks that choose where one slice is left.
    buffer
        Width of the margin around them, in spacings.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.splits import LeaveOneSliceOut
    >>> sections = stgraph.synthetic_tissue(n_cells=100, n_genes=60, n_slices=3)
    >>> slices = dict(zip("abc", sections, strict=True))
    >>> [(fold.name, fold.fit_on, list(fold.test)) for fold in LeaveOneSliceOut().folds(slices)][0]
    ('a', ('b', 'c'), ['a'])
    """

    group_key: str | None = None
    validation_share: float = 0.2
    buffer: float = 4.0

    def __post_init__(self) -> None:
        _check_share(self, "validation_share")
        _check_not_negative(self, "buffer")

    @property
    def name(self) -> str:
        """Name in tables, as in ``"other slice"`` or ``"other donor"``."""
        return f"other {self.group_key or 'slice'}"

    @property
    def leaks(self) -> bool:
        """False, unless the slices are adjacent sections and ``group_key`` does not say so."""
        return False

    def folds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> list[Fold]:
        """A fold for each slice or group.

        Parameters
        ----------
        slices
            Canonical slices, by name.
        random_state
            Seed of what chooses.

        Returns
        -------
        list of Fold
            In the order of the slices.

        Raises
        ------
        InputError
            If there is one slice or group only, or ``group_key`` is missing or has several
            values in a slice.
        """
        groups: dict[str, list[str]] = {}
        for name, adata in slices.items():
            groups.setdefault(self._group(name, adata), []).append(name)
        if len(groups) < 2:
            what = "slice" if self.group_key is None else f"value of obs['{self.group_key}']"
            raise InputError(
                f"LeaveOneSliceOut needs two slices to learn from one and judge the other, and there is one {what} "
                f"only ({', '.join(groups)}): add a slice, or use SpatialBlocks within this one."
            )
        rng = np.random.default_rng(random_state)
        folds = []
        for group, judged in groups.items():
            left = {name: adata for name, adata in slices.items() if name not in judged}
            kinds = self._choosing(left, [names for other, names in groups.items() if other != group], rng)
            kinds |= {name: np.full(slices[name].n_obs, TEST) for name in judged}
            folds.append(_fold(group, tuple(left), kinds))
        return folds

    def _group(self, name: str, adata: AnnData) -> str:
        if self.group_key is None:
            return name
        if self.group_key not in adata.obs:
            raise InputError(
                f"{name}: obs has no column '{self.group_key}' to leave slices out by; it has: "
                f"{', '.join(adata.obs.columns)}."
            )
        values = adata.obs[self.group_key].astype(str).unique()
        if len(values) != 1 or adata.obs[self.group_key].isna().any():
            raise InputError(
                f"{name}: obs['{self.group_key}'] must have one value in a slice to leave it out by, and it has "
                f"{len(values)}: {', '.join(map(str, values[:5]))}."
            )
        return str(values[0])

    def _choosing(
        self, left: Mapping[str, AnnData], groups: list[list[str]], rng: np.random.Generator
    ) -> dict[str, NDArray[np.str_]]:
        """What each cell of the slices that are left does: learn or choose."""
        if len(left) == 1:
            [(name, adata)] = left.items()
            return {name: self._blocks(name, adata, rng)}
        # Another group chooses if two are left, else a slice of the one.
        units = groups if len(groups) > 1 else [[name] for name in left]
        choosing = units[int(rng.integers(len(units)))]
        return {name: np.full(adata.n_obs, VALIDATION if name in choosing else TRAIN) for name, adata in left.items()}

    def _blocks(self, name: str, adata: AnnData, rng: np.random.Generator) -> NDArray[np.str_]:
        pos = _positions(adata)
        block = spatial_blocks(pos, n_blocks=min(_BLOCKS, len(pos)))
        n_blocks = int(block.max()) + 1
        n_choosing = max(1, round(n_blocks * self.validation_share))
        choosing = np.isin(block, rng.permutation(n_blocks)[:n_choosing])
        kind = _with_margin(pos, np.zeros_like(choosing), choosing, reach=self.buffer * median_spacing(pos))
        if not (kind == TRAIN).any():
            raise InputError(
                f"{name}: a margin of {self.buffer:g} spacings around the validation blocks leaves no cell to learn "
                "from: give LeaveOneSliceOut a smaller buffer or validation_share."
            )
        return kind


_BLOCKS = 15


@dataclass(frozen=True)
class GivenSplit:
    """A division that a column of ``obs`` states, as a hold-out of fields of view.

    Parameters
    ----------
    key
        Column with ``"train"``, ``"validation"`` and ``"test"``; a cell without a value counts
        nowhere.
    leaks
        Whether you know that neighbours of judged cells are learnt from; it is written into
        the tables.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.splits import GivenSplit
    >>> tissue = stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]
    >>> tissue.obs["split"] = ["train"] * 60 + ["validation"] * 20 + ["test"] * 20
    >>> int(GivenSplit("split").folds({"a": tissue})[0].test["a"].sum())
    20
    """

    key: str
    leaks: bool = False

    @property
    def name(self) -> str:
        """Name in tables: that of the column."""
        return f"given by {self.key}"

    def folds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> list[Fold]:
        """One fold; slices in which all cells are judged are not looked at before.

        Parameters
        ----------
        slices
            Canonical slices, by name. In a slice without the column, no cell counts.
        random_state
            Not used: nothing is drawn.

        Returns
        -------
        list of Fold
            One.

        Raises
        ------
        InputError
            If the column says something else, or no cell is for training or for testing.
        """
        kinds: dict[str, NDArray[np.str_]] = {}
        for name, adata in slices.items():
            if self.key not in adata.obs:
                continue
            column = adata.obs[self.key]
            kind = np.where(column.isna(), "", column.astype(str).to_numpy()).astype(str)
            strange = sorted(set(np.unique(kind).tolist()) - {TRAIN, VALIDATION, TEST, ""})
            if strange:
                raise InputError(
                    f"{name}: obs['{self.key}'] must say train, validation or test, or nothing, not '{strange[0]}'."
                )
            kinds[name] = kind
        looked_at = tuple(name for name, kind in kinds.items() if ((kind == TRAIN) | (kind == VALIDATION)).any())
        fold = _fold("given", looked_at, kinds)
        for what, masks in ((TRAIN, fold.train), (TEST, fold.test)):
            if not masks:
                raise InputError(f"obs['{self.key}'] names no {what} cell in the slices {', '.join(slices)}.")
        return [fold]


def _fold(name: str, fit_on: tuple[str, ...], kinds: Mapping[str, NDArray[np.str_]]) -> Fold:
    """A fold of what each cell does; a slice is left out of what none of its cells does."""

    def masks(wanted: str) -> dict[str, NDArray[np.bool_]]:
        return {name: kind == wanted for name, kind in kinds.items() if (kind == wanted).any()}

    return Fold(name, fit_on, masks(TRAIN), masks(VALIDATION), masks(TEST))


def _with_margin(
    pos: NDArray[np.float64], test: NDArray[np.bool_], validation: NDArray[np.bool_], *, reach: float
) -> NDArray[np.str_]:
    """What each cell does, ``""`` in the margins."""
    kind = np.full(len(pos), TRAIN, dtype="U10")
    kind[validation] = VALIDATION
    kind[test] = TEST
    # A cell that chooses no longer, for it is too near a judged one, has no margin of its own.
    for kept, others in ((TEST, (TRAIN, VALIDATION)), (VALIDATION, (TRAIN,))):
        judges, rows = np.flatnonzero(kind == kept), np.flatnonzero(np.isin(kind, others))
        if len(judges) and len(rows):
            distance = cKDTree(pos[judges]).query(pos[rows])[0]
            kind[rows[distance <= reach]] = ""
    return kind


def _positions(adata: AnnData) -> NDArray[np.float64]:
    return np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)


def _check_share(owner: object, name: str) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(f"{type(owner).__name__} needs a {name} between 0 and 1, not {value!r}.")


def _check_not_negative(owner: object, name: str) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (np.isfinite(value) and value >= 0):
        raise InputError(f"{type(owner).__name__} needs a {name} that is not negative, not {value!r}.")
