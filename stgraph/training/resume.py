"""Taking a run up where it was left."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from stgraph.errors import InputError
from stgraph.training.batches import Batches
from stgraph.training.distributed import device_state
from stgraph.training.fingerprint import Fingerprint
from stgraph.training.noise import Noise
from stgraph.training.random_transforms import generator_states, random_transforms, restore_generators
from stgraph.training.run_state import RunState, read_state, write_state


class Keeper:
    """Keeps the state of a run in a folder.

    Parameters
    ----------
    folder
        Which.
    run
        What the run is.
    batches
        What it trains on; transforms of it may draw random numbers of their own.
    """

    def __init__(self, folder: Path, run: Fingerprint, batches: Batches) -> None:
        self.folder = Path(folder)
        self.run = run
        self.batches = batches

    def begin(self, fabric: Fabric, task: nn.Module, optimizer: torch.optim.Optimizer, noise: Noise) -> RunState:
        """Bring everything that trains to where the run was left, if there is such a place.

        Parameters
        ----------
        fabric, task, optimizer, noise
            What trains, set up, before the first step.

        Returns
        -------
        RunState
            Where the run is.

        Raises
        ------
        InputError
            If several processes have transforms with random numbers of their own, of which only those of one are kept.
        """
        if fabric.world_size > 1 and random_transforms(self.batches):
            raise InputError(
                f"{type(random_transforms(self.batches)[0]).__name__} draws random numbers in each process, and a run "
                "of several could not go on with them: train in one process, without resume, or without this transform."
            )
        self.fabric, self.task, self.optimizer, self.noise = fabric, task, optimizer, noise
        state = read_state(self.folder, self.run)
        if state is None:
            return RunState()
        self.task.load_state_dict(state.tensors.get("task", {}))
        self._load_optimizer(state.tensors.get("optimizer", {}))
        if state.scaler:
            self.fabric.strategy.precision.load_state_dict(state.scaler)
        generators = state.tensors["generators"]
        torch.set_rng_state(generators["torch"])
        self.noise.generator.set_state(generators["noise"])
        restore_generators(self.batches, generators)
        # A run may go on elsewhere, with other random numbers there.
        if "device" in generators and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(generators["device"], self.fabric.device)
        state.tensors = {}
        return state

    def keep(self, state: RunState) -> None:
        """Write where the run is; the first process does so for all, which wait for it."""
        if self.fabric.is_global_zero:
            now = RunState(state.epoch, state.position, state.history, state.done, self._tensors(), self._scaler())
            write_state(self.folder, now, self.run)
        self.fabric.barrier()

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        generators = {"torch": torch.get_rng_state(), "noise": self.noise.generator.get_state()}
        generators |= generator_states(self.batches)
        on_device = device_state(self.fabric.device)
        if on_device is not None:
            generators["device"] = on_device
        return {"task": dict(self.task.state_dict()), "optimizer": self._optimizer_state(), "generators": generators}

    def _scaler(self) -> dict[str, Any]:
        """Of 16-bit gradients; others need none."""
        return dict(self.fabric.strategy.precision.state_dict())

    def _optimizer_state(self) -> dict[str, Tensor]:
        """Moments by number of the parameter; learning rates and the like are settings."""
        state = self.optimizer.state_dict()["state"]
        return {f"{number}/{name}": value for number, of in state.items() for name, value in of.items()}

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            number, _, name = key.partition("/")
            state.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
