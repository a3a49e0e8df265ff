"""Training in stages, each done once: whatever ends the program, it goes on where it was."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol

from torch import nn

from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.arguments import check_whole
from stgraph.objectives.base import WeightedSum
from stgraph.training.distributed import first_process, one_process
from stgraph.training.frozen import frozen
from stgraph.training.loop import Record, Trainer
from stgraph.training.run_state import OtherRunError
from stgraph.training.stage_folder import StageFolder, weights_hash
from stgraph.training.tracking import json_lines


@dataclass(frozen=True)
class Stage:
    """What one stage of training trains, on what, and how.

    Attributes
    ----------
    name
        Name of its folder.
    model
        What is trained, in place; its weights are what the stage leaves.
    data
        Makes the data set, only if the stage is not done.
    objective
        What is minimised.
    trainer
        How.
    epochs
        How often all of the data is seen, in place of the trainer's ``max_steps``; None for those.
    inputs
        All that decides the result, as JSON can hold it: settings, and hashes of the data.
    frozen
        Networks that the stage uses and must leave as they are.
    finish
        Called once the model is trained, before its weights are kept.
    """

    name: str
    model: nn.Module
    data: Callable[[], Any]
    objective: WeightedSum
    trainer: Trainer
    inputs: Mapping[str, Any]
    epochs: int | None = None
    frozen: Sequence[nn.Module] = ()
    finish: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name or self.name.startswith("."):
            raise InputError(f"A stage is named after its folder, and {self.name!r} is no name of one.")
        if self.epochs is not None:
            check_whole(self, "epochs")


@dataclass(frozen=True)
class StageResult:
    """What became of a stage.

    Attributes
    ----------
    name
        Its name.
    how
        ``"trained"`` from its start, ``"resumed"`` where it had been stopped, or ``"kept"``: it was done already.
    history
        One record for each step, also of those that were taken by an earlier run of the program.
    seconds
        Of this run of the program.
    """

    name: str
    how: Literal["trained", "resumed", "kept"]
    history: list[Record]
    seconds: float


class Watch(Protocol):
    """Is told how training goes on, for progress bars."""

    def begin(self, stage: str, num_steps: int) -> None:
        """A stage begins, or goes on."""
        ...

    def step(self, stage: str, record: Record) -> None:
        """A step was taken."""
        ...

    def end(self, result: StageResult) -> None:
        """A stage is done, now or since long."""
        ...


def run_stages(
    stages: Iterable[Stage], folder: Path, *, redo: bool = False, watch: Watch | None = None
) -> list[StageResult]:
    """Train in stages; those that are done are not done again.

    Killed at any moment and called again, it goes on where it was, with the same numbers as if it had never been
    stopped. A stage is known by its ``inputs`` and by what all stages before it left: where these are others than those
    it was done with, nothing is trained and the error says what differs.

    Parameters
    ----------
    stages
        In their order. They are taken one by one: a generator may make a stage from what those before it left.
    folder
        Where each has a folder of its name.
    redo
        Train those anew whose inputs changed, instead of an error; and so all that follow. What a stage left before is
        kept until its successor is done, and taken up again if the inputs come to be what they were.
    watch
        Is told how it goes.

    Returns
    -------
    list of StageResult
        One for each stage. The models have the weights of the last stage that trained them, and are in eval mode.

    Raises
    ------
    InputError
        If a stage was done or begun with other inputs, or two have one name.
    TrainingError
        If a loss stops being finite.

    Examples
    --------
    See `stgraph.tasks.pretrain.pretrain`, which makes the stages of SToFM.
    """
    results: list[StageResult] = []
    before: str | None = None
    for stage in stages:
        if stage.name in [result.name for result in results]:
            raise InputError(f"Two stages are called '{stage.name}': give each a name of its own.")
        results.append(_run(stage, StageFolder(folder / stage.name), before, redo, watch))
        # Of all stages so far: the last may have trained another network than the next one starts from.
        before = hashlib.sha256(f"{before}{weights_hash(stage.model)}".encode()).hexdigest()
        if watch is not None:
            watch.end(results[-1])
    return results


def _run(stage: Stage, folder: StageFolder, before: str | None, redo: bool, watch: Watch | None) -> StageResult:
    begin = perf_counter()
    inputs = {**stage.inputs, "start": before}
    try:
        standing = folder.standing(inputs)
    except InputError:
        if not redo:
            raise
        standing = "done" if folder.bring_back(inputs) else "new"
    if standing == "done":
        folder.load(stage.model)
        stage.model.eval()
        if first_process():
            folder.tidy()
        return StageResult(stage.name, "kept", folder.history(), perf_counter() - begin)
    if standing == "new" and first_process():
        folder.begin(inputs)
    with frozen(stage.frozen):
        try:
            history = _train(stage, folder, watch)
        except OtherRunError as error:
            if not (redo and one_process()):
                raise InputError(
                    f"{error} With redo=true, in one process, the stage '{stage.name}' begins anew; or delete "
                    f"'{folder.path}'."
                ) from error
            standing = "new"
            folder.begin(inputs)
            history = _train(stage, folder, watch)
        if stage.finish is not None:
            stage.finish()
    seconds = perf_counter() - begin
    if first_process():
        folder.finish(stage.model, inputs, {"steps": len(history), "seconds": round(seconds, 3)})
    return StageResult(stage.name, "resumed" if standing == "begun" else "trained", history, seconds)


def _train(stage: Stage, folder: StageFolder, watch: Watch | None) -> list[Record]:
    data = stage.data()
    trainer = stage.trainer
    if stage.epochs is not None:
        trainer = replace(trainer, max_steps=stage.epochs * trainer.steps_in(data))
    if 0 < trainer.max_steps <= trainer.warmup_steps:
        warnings.warn(
            f"The stage '{stage.name}' has {trainer.max_steps} steps, and its learning rate rises over "
            f"{trainer.warmup_steps}: it never comes to {trainer.lr:g}. Lower warmup_steps of its trainer.",
            StgraphWarning,
            stacklevel=4,
        )
    if watch is not None:
        watch.begin(stage.name, trainer.max_steps)
    with _log(folder, watch, stage.name) as on_step:
        history = trainer.fit(stage.model, data, stage.objective, on_step=on_step, resume=folder.running)
    stage.model.eval()
    return history


@contextmanager
def _log(folder: StageFolder, watch: Watch | None, name: str) -> Iterator[Callable[[Record], None]]:
    """Write each record to the file of the stage, and tell it; steps that are taken again replace those before."""
    with ExitStack() as stack:
        line: Callable[[Record], None] | None = None

        def write(record: Record) -> None:
            nonlocal line
            if line is None:
                folder.forget_from(int(record["step"]))
                line = stack.enter_context(json_lines(folder.metrics))
            line(record)
            if watch is not None:
                watch.step(name, record)

        yield write
