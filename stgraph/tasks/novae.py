"""Novae, a graph model of others, as an encoder that stands beside ours."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.arguments import check_positive, check_whole
from stgraph.tasks.novae_input import is_array, novae_input, slice_name
from stgraph.tasks.novae_quiet import borrowed, import_novae

_EMBEDDING_SIZE = 100
"""Novae's own size of a gene's embedding; smaller panels need a smaller one to be initialised by components."""

_REPRESENTATION, _VALID = "novae_latent", "neighborhood_valid"


@dataclass
class NovaeEncoder:
    """Representations of the graph foundation model Novae (Blampey et al., Nature Methods 2025).

    With released weights nothing is trained: they describe cells as they are (zero-shot).
    Where they cannot be had (without a network, say), and with ``weights=None``, a model
    of the same architecture is trained on the slices of `fit`; `origin` tells which.
    Everything else is what Novae recommends: median depth and ``log1p``, its variable genes,
    Delaunay edges up to 80 microns, or six neighbours on an array of spots, its
    optimiser, schedule and early stopping. It runs on the CPU, in as many threads as
    torch is given, and needs the extra ``novae``.

    Parameters
    ----------
    weights
        Name of released weights on the Hugging Face hub, or a folder that Novae saved. None
        trains from scratch.
    max_epochs
        Most epochs of a training from scratch; it stops early where the loss does not fall.
    min_steps
        Steps that ``max_epochs`` must allow at least. Novae's defaults were made for 50,000
        cells and more; on a small slice, whose epochs are a few steps, ``max_epochs`` and
        the patience of early stopping are multiplied by the same whole number.
    batch_size
        Cells in a step; half of all cells if they are fewer than two batches, as Novae drops the last one.
    radius
        Longest Delaunay edge, microns; arrays have none.
    array
        Whether cells are spots of an array (Visium). None finds out from distances.
    random_state
        Seed of weights, batches and augmentation.

    Attributes
    ----------
    origin
        ``weights``, or "scratch"; "" before `fit`.

    Raises
    ------
    InputError
        If an argument is out of range, and in `fit` if Novae is not installed.

    Examples
    --------
    >>> from stgraph.tasks.novae import NovaeEncoder
    >>> NovaeEncoder(weights=None, max_epochs=5).radius
    80.0
    """

    weights: str | None = "prism-oncology/novae-human-0"
    max_epochs: int = 20
    min_steps: int = 250
    batch_size: int = 256
    radius: float = 80.0
    array: bool | None = None
    random_state: int = 0
    origin: str = field(default="", init=False)
    _model: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_whole(self, "max_epochs")
        check_whole(self, "min_steps", least=0)
        check_whole(self, "batch_size", least=2)
        check_positive(self, "radius", " in microns")
        check_whole(self, "random_state", least=0)

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Load the weights, or train where there are none.

        Parameters
        ----------
        slices
            Canonical slices, each one section. Released weights look at none of them.

        Returns
        -------
        NovaeEncoder
            Itself.

        Raises
        ------
        InputError
            If Novae is not installed, or refuses the slices.

        Warns
        -----
        StgraphWarning
            If the weights cannot be had, so that the model is trained from scratch, and of what
            Novae itself warns of.
        """
        novae = import_novae()
        folder = None if self.weights is None else self._folder(self.weights)
        if folder is not None:
            with borrowed(self.random_state, "the weights"):
                self._model = novae.Novae.from_pretrained(folder)
            self.origin = str(self.weights)
        else:
            self._model = self._trained(novae, slices)
            self.origin = "scratch"
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Representation of the neighbourhood of each cell.

        Parameters
        ----------
        adata
            One canonical slice, seen in `fit` or not.

        Returns
        -------
        ndarray
            (N, C) float32; C is 64.

        Raises
        ------
        InputError
            If the encoder was not fitted, or Novae refuses the slice: it needs 20 of the genes it knows.

        Warns
        -----
        StgraphWarning
            If cells have no neighbours two steps away: Novae describes them by zeros.
        """
        if self._model is None:
            raise InputError("The NovaeEncoder was not fitted: call fit(slices) first.")
        novae = import_novae()
        (made,) = self._converted([adata])
        if self.origin == "scratch":
            # The genes that were learnt, not those that vary most here: others mean nothing to the model.
            made.var["highly_variable"] = np.isin(made.var_names.str.lower(), self._model.cell_embedder.gene_names)
        with borrowed(self.random_state, slice_name(adata)):
            self._connect(novae, made)
            self._model.compute_representations(made, accelerator="cpu")
        without = int((~made.obs[_VALID].to_numpy(dtype=bool)).sum())
        if without:
            warnings.warn(
                f"{slice_name(adata)}: {without} of {adata.n_obs} cells have no neighbours two steps away, and Novae "
                "describes them by zeros; a larger radius= may mend that.",
                StgraphWarning,
                stacklevel=2,
            )
        return np.asarray(made.obsm[_REPRESENTATION], dtype=np.float32)

    def _folder(self, weights: str) -> str | None:
        """Folder with the weights, or None if they cannot be had."""
        if Path(weights).is_dir():
            return weights
        import huggingface_hub  # noqa: PLC0415 - comes with Novae

        try:
            # Asked for apart from Novae, which tries for half a minute and prints each try.
            return str(huggingface_hub.snapshot_download(weights, allow_patterns=["config.json", "*.safetensors"]))
        except ValueError as error:
            raise InputError(
                f"NovaeEncoder: '{weights}' is neither a folder nor a name on the Hugging Face hub, such as "
                "prism-oncology/novae-human-0."
            ) from error
        except OSError as error:
            warnings.warn(
                f"The weights '{weights}' of Novae cannot be had ({type(error).__name__}), so it is trained from "
                "scratch on these slices, which its authors' results are not about; weights=None says that on purpose.",
                StgraphWarning,
                stacklevel=3,
            )
            return None

    def _converted(self, slices: Sequence[AnnData]) -> list[AnnData]:
        symbols = self.origin not in ("", "scratch")
        return [novae_input(adata, array=self._on_array(adata), symbols=symbols) for adata in slices]

    def _on_array(self, adata: AnnData) -> bool:
        return is_array(np.asarray(adata.obsm["spatial"])) if self.array is None else self.array

    def _connect(self, novae: Any, made: AnnData) -> None:
        # What Novae's technology="visium" stands for; on a square array four neighbours are left.
        on_array = {"coord_type": "grid", "delaunay": False, "n_neighs": 6}
        novae.spatial_neighbors(made, **(on_array if self._on_array(made) else {"radius": self.radius}))

    def _trained(self, novae: Any, slices: Sequence[AnnData]) -> Any:
        self.origin = "scratch"
        made = self._converted(slices)
        with borrowed(self.random_state, ", ".join(map(slice_name, slices))), TemporaryDirectory() as folder:
            for one in made:
                self._connect(novae, one)
            # Sorted, for Novae's own order of genes differs from one process to the next.
            genes = sorted(novae.utils.prepare_adatas(made)[1])
            for one in made:
                one.var["highly_variable"] = np.isin(one.var_names.str.lower(), genes)
            n_cells = sum(one.n_obs for one in made)
            # Components of the slice with most genes start the embeddings, if there are enough of them.
            n_genes, n_obs = max((int(one.var["highly_variable"].sum()), one.n_obs) for one in made)
            batch_size = min(self.batch_size, max(1, n_cells // 2))
            model = novae.Novae(
                made,
                var_names=genes,
                embedding_size=min(_EMBEDDING_SIZE, n_genes - 1, n_obs),
                batch_size=batch_size,
            )
            longer = self._times_longer(n_cells // batch_size)
            model.fit(
                max_epochs=self.max_epochs * longer,
                patience=4 * longer,
                accelerator="cpu",
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            # Through a folder, for the trained object holds on to the slices and to its trainer.
            model.save_pretrained(folder)
            return novae.Novae.from_pretrained(folder)

    def _times_longer(self, steps_per_epoch: int) -> int:
        return max(1, -(-self.min_steps // (self.max_epochs * steps_per_epoch)))
