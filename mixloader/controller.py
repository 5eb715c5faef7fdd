"""The controller: ledger and policy make the next plan; what the run costs is known from here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses, LossLedger
from mixloader.planning import Augment, EpochPlan, epoch_rng, plan_epoch
from mixloader.policies.policy import Budget, Policy, Run, check_count

_VERSION = 1
"""Of the states: another one for each change of what they hold."""

_LAST_EPOCH = 2**31 - 1  # the ledger's int32


class Controller:
    """Plans a run, one epoch after the other.

    The plan of an epoch depends on the policy, the run, `(seed, epoch)` and the ledger, and on nothing else.

    Args:
        policy: who gets what.
        run: the fixed facts of the run.
        sizes: int32 [N, 2], width and height of every upright image, pixels; 0 where unknown.
        ledger: where the losses are.
        seed: of every random choice.
        augment: crop and flip; None shows the largest centred window.
        shuffle: False keeps the samples in the order of their ids, as far as equal shares let it.

    Raises:
        MixloaderError: the policy cannot be met in this run, or is none.
    """

    def __init__(
        self,
        policy: Policy,
        run: Run,
        sizes: npt.NDArray[np.int32],
        ledger: LossLedger,
        *,
        seed: int = 0,
        augment: Augment | None = Augment(),
        shuffle: bool = True,
    ) -> None:
        if isinstance(policy, type) or not isinstance(policy, Policy):
            raise MixloaderError(
                f"policy={policy!r} is no policy: pass an instance, such as Whole() or MixTrain(speedup=1.8)"
            )
        seed = check_count("seed", seed, least=0)
        if not isinstance(augment, Augment | None):
            raise MixloaderError(f"augment must be an Augment(...) or None, got {augment!r}")
        self.policy, self.run, self.ledger, self.seed = policy, run, ledger, seed
        self._sizes, self._augment, self._shuffle = sizes, augment, shuffle
        # Every budget now: a policy that cannot be met is refused here, not in the middle of the run.
        self._budgets = [policy.budget(run, epoch) for epoch in range(run.epochs or 1)]

    def budget(self, epoch: int) -> Budget | None:
        """What the batches of an epoch are made of; None where that follows the losses.

        Raises:
            MixloaderError: the run has no such epoch.
        """
        epoch, epochs = check_count("epoch", epoch, least=0), self.run.epochs
        if epochs is None:
            if epoch > _LAST_EPOCH:
                raise MixloaderError(
                    f"epoch {_shown(epoch)} is outside any run: the ledger counts epochs up to {_LAST_EPOCH}; set_epoch"
                )
            return self._budgets[0]
        if epoch >= epochs:
            raise MixloaderError(
                f"epoch {_shown(epoch)} is outside the run: it was planned for epochs={epochs} (0 to {epochs - 1}); "
                "build the loader with more epochs, or set_epoch"
            )
        return self._budgets[epoch]

    def cost(self, epoch: int) -> float | None:
        """Whole-image passes of an epoch, empty canvases included; None where that follows the losses."""
        budget = self.budget(epoch)
        if budget is None:
            return None
        return self.run.steps * budget.canvases * self.run.area(budget.canvas_size)

    @property
    def total_cost(self) -> float | None:
        """Whole-image passes of the run; None where the losses decide it, or the run is open-ended."""
        if self.run.epochs is None:
            return None
        costs = [self.cost(epoch) for epoch in range(self.run.epochs)]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    def plan(self, epoch: int, losses: Losses | None = None) -> EpochPlan:
        """Plan an epoch.

        Args:
            epoch: its number.
            losses: what it is planned from; None takes the ledger as it is now.

        Raises:
            MixloaderError: the run has no such epoch, or the policy's allocation cannot be drawn.
        """
        budget = self.budget(epoch)
        losses = self.ledger.snapshot() if losses is None else losses
        allocation = self.policy.allocate(self.run, epoch, losses, epoch_rng(self.seed, epoch, 0))
        return plan_epoch(
            allocation,
            self.run,
            self._sizes,
            seed=self.seed,
            epoch=epoch,
            label=losses.label,
            budget=budget,
            augment=self._augment,
            shuffle=self._shuffle,
        )

    def state_dict(self) -> dict[str, Any]:
        """The ledger, and what must be the same in a run that goes on from it."""
        return {"version": _VERSION, **self.identity(), "ledger": self.ledger.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of an earlier run.

        Raises:
            MixloaderError: the state is of another policy, run, seed or data set, or none at all. Nothing is changed.
        """
        self.check_state(state)
        self.ledger.load_state_dict(state["ledger"])

    def check_state(self, state: dict[str, Any]) -> None:
        """Refuse a state that `load_state_dict` would refuse, but for its ledger.

        Raises:
            MixloaderError: naming what differs.
        """
        identity = self.identity()
        if not isinstance(state, dict) or not {*identity, "ledger"} <= state.keys():
            raise MixloaderError(
                f"this is no state of a run: it needs {', '.join(identity)} and ledger (see state_dict)"
            )
        version = state.get("version")
        if type(version) is not int or version != _VERSION:
            raise MixloaderError(
                f"this state has version {_shown(version)}, this mixloader goes on from version {_VERSION}: "
                "go on with the mixloader that wrote it, or start anew"
            )
        for name, value in identity.items():
            if type(state[name]) is not type(value) or state[name] != value:
                raise MixloaderError(
                    f"this state is of another run: its {name} is {_shown(state[name])}, this one's {value}"
                )

    def identity(self) -> dict[str, Any]:
        """What must be the same in a run that goes on from a state, and on every rank."""
        run = {name: value for name, value in asdict(self.run).items() if name != "samples"}  # the ledger knows them
        drawing = {"augment": repr(self._augment), "shuffle": bool(self._shuffle)}
        return {"policy": repr(self.policy), "seed": self.seed, **run, **drawing}


def _shown(value: object) -> str:
    """A value of a state that may hold anything, for a message: in one line, of bounded length."""
    if isinstance(value, int) and abs(value) >= 1 << 64:  # Python writes none of more than 4300 digits
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, int | float | None):
        return str(value)
    return " ".join(value[:300].split()) if isinstance(value, str) else f"of type {type(value).__name__}"
