"""Ranks: the processes that share a run, each drawing its part of every batch. They meet once an epoch."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor

from mixloader.errors import MixloaderError
from mixloader.ledger import Losses, LossLedger

_LOG = logging.getLogger("mixloader")
_PATIENCE = 30.0  # seconds after which who waits for other ranks says so
_NAP = 0.002

Group = Any
"""A `torch.distributed.ProcessGroup`; torch lacks the name where it was built without."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a group, seen from one of them.

    Attributes:
        rank: this process, counted from 0.
        count: how many there are.
        group: of torch.distributed; None where this process is alone.
    """

    rank: int = 0
    count: int = 1
    group: Group | None = None

    @classmethod
    def of(cls, group: Group | Literal["world"] | None) -> Self:
        """The ranks of a group as they are now; `world` is all processes that torch.distributed knows.

        Raises:
            MixloaderError: this process is none of the group's, or one of several that do not know each other yet.
        """
        if group is None:
            return cls()
        if not (dist.is_available() and dist.is_initialized()):
            _refuse_strangers()
            return cls()
        group = dist.group.WORLD if group == "world" else group
        rank, count = dist.get_rank(group), dist.get_world_size(group)
        if rank < 0:
            raise MixloaderError(
                f"this process (rank {dist.get_rank()}) is not in the loader's group: pass a group that it is in"
            )
        return cls(rank, count, group)

    def agree(self, facts: Mapping[str, str]) -> None:
        """See to it that all ranks are about to do the same. Collective: every rank has to call it.

        Raises:
            MixloaderError: on every rank, where their facts differ.
        """
        if self.count == 1:
            return
        digest = hashlib.sha256(repr(sorted(facts.items())).encode()).digest()
        mine = torch.frombuffer(bytearray(digest), dtype=torch.int64).to(self._device(torch.device("cpu")))
        found = [torch.empty_like(mine) for _ in range(self.count)]
        self._wait(dist.all_gather(found, mine, group=self.group, async_op=True))
        if all(torch.equal(other, mine) for other in found):
            return
        told: list[dict[str, str]] = [{} for _ in range(self.count)]
        dist.all_gather_object(told, dict(facts), group=self.group)
        names = [name for name in facts if len({repr(each.get(name)) for each in told}) > 1]
        name = names[0] if names else "facts"
        values = ", ".join(f"{each.get(name)} on rank {rank}" for rank, each in enumerate(told))
        raise MixloaderError(
            f"the ranks do not do the same: {name} is {values}; build the loader alike on every rank, and load the "
            "same state, or states of one moment"
        )

    def merge(self, ledger: LossLedger, base: Losses) -> None:
        """Bring together what each rank recorded since they all had `base`. Collective: every rank has to call it.

        A sample is drawn by one rank in an epoch, so its row is taken from the rank on which it is no longer what it
        was. Where it changed on several (they went on from states of their own), the lowest of them counts.
        """
        if self.count == 1:
            return
        pairs = [
            (
                _bits(getattr(ledger, name)[: len(base)]),
                _bits(torch.from_numpy(getattr(base, name))).to(ledger.loss.device),
            )
            for name in ("loss", "previous", "seen", "whole")
        ]
        changed = torch.stack([now != before for now, before in pairs]).any(0)
        owner = self._reduced(torch.where(changed, self.rank, self.count).to(torch.int32), dist.ReduceOp.MIN)
        for now, before in pairs:
            # Only the owner's difference is not 0, so their sum is it, bit by bit.
            difference = torch.where(owner == self.rank, now - before, 0)
            now.copy_(before + self._reduced(difference, dist.ReduceOp.SUM))

    def gather(self, found: Mapping[int, str]) -> dict[int, str]:
        """What any of the ranks found. Collective: every rank has to call it."""
        if self.count == 1:
            return dict(found)
        everyone: list[dict[int, str]] = [{} for _ in range(self.count)]
        dist.all_gather_object(everyone, dict(found), group=self.group)
        return {sample: reason for each in everyone for sample, reason in each.items()}

    def _reduced(self, values: Tensor, how: Any) -> Tensor:
        moved = values.to(self._device(values.device))
        self._wait(dist.all_reduce(moved, how, group=self.group, async_op=True))
        return moved.to(values.device)

    def _device(self, wanted: torch.device) -> torch.device:
        """Where a group's tensors have to be: gloo takes those of the CPU, NCCL those of a GPU."""
        backend = str(dist.get_backend(self.group))
        if "nccl" not in backend or "gloo" in backend:
            return torch.device("cpu")
        return wanted if wanted.type == "cuda" else torch.device("cuda", torch.cuda.current_device())

    def _wait(self, work: Any) -> None:
        """Wait for the other ranks, and say so where that takes long: one of them may never come."""
        start, told = time.monotonic(), False
        while not work.is_completed():
            if not told and time.monotonic() - start > _PATIENCE:
                told = True
                _LOG.warning(
                    "rank %d of %d waits for the others since %.0f s, at the beginning or end of an epoch: every rank "
                    "has to iterate over the loader; one that a single rank iterates over takes group=None",
                    self.rank, self.count, _PATIENCE,
                )  # fmt: skip
            time.sleep(_NAP)
        work.wait()


def _refuse_strangers() -> None:
    """Refuse to go on as one alone where a launcher started several: each would train on everything."""
    count = os.environ.get("WORLD_SIZE", "1")
    if "RANK" in os.environ and count.isdecimal() and int(count) > 1:
        raise MixloaderError(
            f"WORLD_SIZE={count} processes were started, and torch.distributed is not initialised: call "
            "torch.distributed.init_process_group before iterating, or pass group=None if each is to have all samples"
        )


def _bits(column: Tensor) -> Tensor:
    """The same memory as whole numbers: NaN equals NaN then."""
    return column.view(torch.int32)


def digest_of(losses: Losses) -> str:
    """A short digest of all columns of the losses."""
    digest = hashlib.blake2b(digest_size=8)
    for column in (losses.loss, losses.previous, losses.seen, losses.whole):
        digest.update(column.data)
    return digest.hexdigest()
