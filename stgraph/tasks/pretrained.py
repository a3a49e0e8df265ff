"""Load a trained model: a directory of ours, SToFM or AIDO.Tissue as published, or an id on the hub."""

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from stgraph._config import instantiate
from stgraph.errors import CheckpointError, InputError, StgraphWarning, TrustError
from stgraph.preprocess.encoder import CellEncoder
from stgraph.tasks import aido_tissue_release
from stgraph.tasks.hub import download_model, is_model_id
from stgraph.tasks.pretrained_model import GENES, Pretrained
from stgraph.tasks.stofm_release import is_released, load_released
from stgraph.tasks.weight_licence import licences_of
from stgraph.training.checkpoint import load_checkpoint, load_weights

_SAFE_TORCH = "2.10"
"""Before, a file may make ``torch.load`` write into memory it should not, whatever ``weights_only`` says."""

__all__ = ["Pretrained", "from_pretrained"]


def from_pretrained(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    trust: Sequence[str] = (),
    gene_list: str | os.PathLike[str] | None = None,
) -> Pretrained:
    """Load a model from its directory, or by its id on the Hugging Face hub.

    A string like ``"organisation/model"`` is an id, unless there is such a folder, or one called ``organisation`` and
    no ``revision`` is given; a `Path`, or what begins with ``./``, is always a folder. A model of the hub is fetched
    once, checked file by file, and kept in the user's cache (`stgraph.tasks.hub`). No code of it is run, here or there.

    Parameters
    ----------
    model
        A directory that ``stgraph fit`` or `Pretrained.save_pretrained` wrote, a folder in the layout in which SToFM
        is published together with a gene vocabulary (`stgraph.tasks.stofm_release`), one in which AIDO.Tissue is
        (`stgraph.tasks.aido_tissue_release`) or a file of its weights, or the id of one of these.
    revision
        Of a model on the hub: its branch, tag or, to have the same weights for ever, commit. None for ``main``.
    trust
        Packages beside stgraph whose classes may be built, for models with parts of your
        own. A model directory from others can name any class; those of other packages
        are refused.
    gene_list
        Table of genes and their numbers that weights of AIDO.Tissue were trained with, where it is not in their folder.

    Returns
    -------
    Pretrained
        On the CPU, in eval mode.

    Raises
    ------
    CheckpointError
        If the directory is missing, damaged, incomplete or of another format version, or there is no such model on
        the hub, or the hub cannot be reached, or torch is too old to read its files safely.
    InputError
        If a revision of a folder is asked for, or the form of one is wrong, or the model has a gene list of its own.

    Warns
    -----
    StgraphWarning
        What the weights may be used for, where they carry a licence.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> result = stgraph.fit(
    ...     stgraph.synthetic_tissue(n_cells=200, n_genes=60),
    ...     trainer={"_target_": "stgraph.training.loop.Trainer", "max_steps": 2},
    ...     progress=False,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result.pretrained.save_pretrained(folder)
    ...     stgraph.from_pretrained(folder).model.num_layers
    1
    """
    if is_model_id(model) and not Path(model).exists():
        parent = Path(model).parent
        if revision is None and parent.is_dir():
            raise CheckpointError(
                f"There is no folder '{model}', though there is '{parent}': check the spelling. If the model of that "
                "id on the hub is meant, say of which revision: revision='main'."
            )
        folder = download_model(str(model), revision=revision)
        _check_torch(folder, str(model))
    else:
        folder = Path(model)
        if revision is not None:
            raise InputError(f"'{folder}' is a folder, which has no revision: leave revision={revision!r} out.")
    if not is_released(folder) and aido_tissue_release.is_released(folder):
        return aido_tissue_release.load_released(folder, gene_list=gene_list)
    if gene_list is not None:
        raise InputError(f"'{model}' has its own genes: leave gene_list out, which published AIDO.Tissue needs.")
    return load_released(folder) if is_released(folder) else _load(folder, trust)


def _check_torch(folder: Path, model_id: str) -> None:
    """Refuse files of strangers that an older torch may be made to run something by."""
    pickled = sorted(path.name for path in folder.rglob("*") if path.suffix in (".pth", ".bin", ".ckpt"))
    own = torch.torch_version.TorchVersion(torch.__version__)
    if pickled and own < _SAFE_TORCH:
        raise CheckpointError(
            f"'{model_id}' has weights in {', '.join(pickled)}, which torch reads safely from {_SAFE_TORCH} on, and "
            f"this is {torch.__version__}: update torch, or take a model in safetensors. If you trust who published "
            f"it, give its folder: from_pretrained(Path({str(folder)!r}))."
        )


def _load(folder: Path, trust: Sequence[str]) -> Pretrained:
    config, tensors = load_checkpoint(folder)
    build = partial(instantiate, trusted=("stgraph", *trust))
    try:
        parts = config["parts"]
        encoder = build(parts["encoder"]).load_state(_to_arrays(tensors["encoder"]))
        model = build(parts["model"])
        weights = tensors["model"]
        domains = build(parts["domains"])
        if domains is not None:
            domains.load_state(_to_arrays(tensors["domains"]))
        pretrained = Pretrained(
            encoder=encoder,
            builder=build(parts["builder"]),
            virtual_cells=build(parts["virtual_cells"]),
            model=model,
            domains=domains,
            info=dict(config.get("info", {})),
            partitioner=build(parts.get("partitioner")),
        )
    except TrustError as error:
        raise TrustError(f"The model '{folder}' is not all of stgraph: {error}") from error
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise CheckpointError(
            f"'{folder}' does not describe a model this stgraph can build ({error}): was its config.json edited?"
        ) from error
    load_weights(model, weights, name=f"'{folder}'")
    _check_genes(folder, encoder)
    model.eval()
    for licence in licences_of((encoder, model)):
        warnings.warn(f"The weights of '{folder}' come with a licence ({licence}).", StgraphWarning, stacklevel=3)
    return pretrained


def _check_genes(folder: Path, encoder: CellEncoder) -> None:
    """An edited list of genes would otherwise change nothing, and nobody would be told."""
    path = folder / GENES
    if path.is_file() and path.read_bytes() != "".join(f"{gene}\n" for gene in encoder.genes).encode():
        raise CheckpointError(
            f"'{path}' does not list the genes of encoder.safetensors, which are those the model reads: copy the model "
            f"directory again, or remove {GENES}."
        )


def _to_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
