"""What a stage of training leaves on disk: while it runs, and when it is done."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from stgraph._files import atomic_path
from stgraph.errors import CheckpointError, InputError
from stgraph.training.checkpoint import CONFIG, load_checkpoint, load_weights, save_checkpoint
from stgraph.training.distributed import one_process
from stgraph.training.loop import Record

Standing = Literal["new", "begun", "done"]

_SHOWN = 3
"""Changed settings that are named in an error; there may be as many as settings."""


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage.

    ``config.json``, written last, is the mark of a stage that is done; ``model.safetensors`` holds its weights. Until
    then ``begun.json`` says with what it was begun, and ``running`` has the checkpoints of the trainer.
    ``metrics.jsonl`` has one line for each step. A stage that is trained again stands aside, as ``.NAME.before``, until
    its successor is done.

    Parameters
    ----------
    path
        The folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from torch import nn
    >>> from stgraph.training.stage_folder import StageFolder
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = StageFolder(Path(name) / "adapt")
    ...     folder.finish(nn.Linear(2, 2), {"lr": 0.1}, {"steps": 3})
    ...     folder.standing({"lr": 0.1})
    'done'
    """

    path: Path

    @property
    def running(self) -> Path:
        """Folder of the checkpoints of a stage that is not done."""
        return self.path / "running"

    @property
    def metrics(self) -> Path:
        """The file with one line of JSON for each step."""
        return self.path / "metrics.jsonl"

    def standing(self, inputs: Mapping[str, Any]) -> Standing:
        """How far the stage is.

        Parameters
        ----------
        inputs
            All that decides what the stage leaves, as JSON can hold it.

        Returns
        -------
        str
            ``"done"``, ``"begun"`` with something to go on from, or ``"new"``.

        Raises
        ------
        InputError
            If it was done or begun with other inputs; the message names them.
        """
        done = (self.path / CONFIG).is_file()
        if done:
            before = _read(self.path / CONFIG).get("inputs")
        elif self.running.is_dir() and any(self.running.iterdir()) and self._begun.is_file():
            before = _read(self._begun)
        else:
            return "new"
        if changes := list(_changes(before, _plain(inputs), "")):
            named = "; ".join(changes[:_SHOWN]) + (f"; and {more} more" if (more := len(changes) - _SHOWN) > 0 else "")
            raise InputError(
                f"The stage '{self.path.name}' in '{self.path.parent}' was {'trained' if done else 'begun'} with other "
                f"settings or data: {named}. Choose another folder (out=), or pass redo=true to train it again, and "
                "what follows it."
            )
        return "done" if done else "begun"

    def begin(self, inputs: Mapping[str, Any]) -> None:
        """Note what the stage is begun with; of an earlier run of it, what it left stands aside until `finish`."""
        if (self.path / CONFIG).is_file():
            shutil.rmtree(self._before, ignore_errors=True)
            self.path.replace(self._before)
        shutil.rmtree(self.path, ignore_errors=True)
        self.running.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._begun) as tmp:
            tmp.write_text(json.dumps(_plain(inputs), indent=1) + "\n", encoding="utf-8")

    def finish(self, model: nn.Module, inputs: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        """Write the weights, then the mark; then remove what only an unfinished stage needs, and its predecessor.

        Parameters
        ----------
        model
            What was trained.
        inputs
            As for `standing`.
        told
            What else is known of the stage, as JSON can hold it.
        """
        # Copies, for the file format refuses tied weights.
        weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        save_checkpoint(self.path, {"inputs": _plain(inputs), "told": _plain(told)}, {"model": weights})
        self.tidy()

    def tidy(self) -> None:
        """Remove what only an unfinished stage needs, and what it was to replace."""
        shutil.rmtree(self.running, ignore_errors=True)
        self._begun.unlink(missing_ok=True)
        shutil.rmtree(self._before, ignore_errors=True)

    def bring_back(self, inputs: Mapping[str, Any]) -> bool:
        """Whether what an unfinished stage was to replace was done with these inputs; it then takes its place again.

        Of several processes one might look while another moves folders: then nothing is brought back.
        """
        done = (self.path / CONFIG).is_file()
        if done or not (self._before / CONFIG).is_file() or not one_process():
            return False
        if _read(self._before / CONFIG).get("inputs") != _plain(inputs):
            return False
        shutil.rmtree(self.path, ignore_errors=True)
        self._before.replace(self.path)
        return True

    def load(self, model: nn.Module) -> dict[str, Any]:
        """Give ``model`` the weights the stage left.

        Returns
        -------
        dict
            What `finish` was told.

        Raises
        ------
        CheckpointError
            If a file is missing or has changed, or the weights are of another model.
        """
        config, tensors = load_checkpoint(self.path)
        load_weights(model, tensors.get("model", {}), name=f"the stage '{self.path.name}'")
        return dict(config["told"])

    def history(self) -> list[Record]:
        """The records of all steps so far; a line that was cut off by a crash is left out."""
        if not self.metrics.is_file():
            return []
        records: list[Record] = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return records

    def forget_from(self, step: int) -> None:
        """Drop the records of a step and of all after it, which are going to be taken again."""
        kept = [record for record in self.history() if record["step"] < step]
        with atomic_path(self.metrics) as tmp:
            tmp.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    @property
    def _before(self) -> Path:
        return self.path.with_name(f".{self.path.name}.before")

    @property
    def _begun(self) -> Path:
        return self.path / "begun.json"


def weights_hash(model: nn.Module) -> str:
    """Hash of the names, types, shapes and bytes of all weights of a network.

    Examples
    --------
    >>> from torch import nn
    >>> from stgraph.training.stage_folder import weights_hash
    >>> linear = nn.Linear(2, 2)
    >>> before = weights_hash(linear)
    >>> _ = linear.bias.data.add_(1)
    >>> weights_hash(linear) == before
    False
    """
    hasher = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hasher.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # Into a new one: a tensor of one item or none may have any stride, of which no bytes can be seen.
        flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().flatten())
        hasher.update(flat.view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a file: tuples are lists, keys are text."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{path}' is damaged ({error}): delete '{path.parent}' to train it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"'{path}' is damaged: delete '{path.parent}' to train it again.")
    return content


def _changes(before: Any, now: Any, where: str) -> Iterator[str]:
    """What differs, leaf by leaf, as ``trainer.lr was 0.1 and is 0.2``."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from _changes(before.get(key), now.get(key), f"{where}.{key}" if where else str(key))
    elif before != now:
        yield f"{where} was {_short(before)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
