"""A training run that any number of ranks share, and a journal of all that it saw. Runs as a script under torchrun."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from mixloader import MixLoader, split_model
from mixloader.errors import MixloaderError
from mixloader.policies import InfoBatch, MixTrain, Whole

POLICIES = {"whole": Whole(), "mixtrain": MixTrain(speedup=1.4), "infobatch": InfoBatch()}
EPOCHS = 4


@dataclass(frozen=True)
class Scenario:
    """What a run does.

    Attributes:
        name: of its journals.
        shards: the set.
        policy: one of POLICIES.
        state: a checkpoint to go on from; `{rank}` in it stands for the rank's own.
        stop: epoch and number of batches after which to save a checkpoint and end.
        gather: whether the ranks meet before that, so that rank 0's is the whole one.
        batch_size: samples of a step, of all ranks together.
    """

    name: str
    shards: str
    policy: str = "mixtrain"
    state: str | None = None
    stop: tuple[int, int] | None = None
    gather: bool = True
    batch_size: int = 14


class Runner:
    """One rank of a run."""

    def __init__(self, scenario: Scenario, out: Path) -> None:
        self.scenario, self.out = scenario, out
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.loader = MixLoader(
            scenario.shards,
            scenario.batch_size,
            64,
            policy=POLICIES[scenario.policy],
            epochs=EPOCHS,
            stride=16,
            seed=5,
            threads=1,
        )
        torch.manual_seed(0)
        features = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.Tanh())
        self.plain = split_model((features, nn.Linear(8, len(self.loader.shards.classes)))).train()
        self.model = nn.parallel.DistributedDataParallel(self.plain) if dist.is_initialized() else self.plain
        self.optimizer = torch.optim.SGD(self.plain.parameters(), lr=0.05, momentum=0.9)
        self.first = 0
        self.steps: list[dict[str, Any]] = []
        self.ledgers: list[dict[str, torch.Tensor]] = []
        if scenario.state:
            self._load(torch.load(scenario.state.format(rank=self.rank)))

    def _load(self, checkpoint: dict[str, Any]) -> None:
        self.plain.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.loader.load_state_dict(checkpoint["loader"])
        self.first = checkpoint["loader"]["epoch"]

    def run(self) -> Path:
        """Train, and write the journal."""
        for epoch in range(self.first, EPOCHS):
            done = self.loader.state_dict()["step"]
            for b, (images, target) in enumerate(self.loader, done):
                self._step(epoch, images, target)
                if self.scenario.stop == (epoch, b + 1):
                    return self._save()
            self.ledgers.append(self.loader.state_dict()["ledger"])
        return self._write("model", self.plain.state_dict())

    def _step(self, epoch: int, images: torch.Tensor, target: dict[str, torch.Tensor]) -> None:
        loss = F.cross_entropy(self.model(images), target)  # type: ignore[arg-type]  # a target scores itself
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        mean = loss.detach().clone()
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        pictures = [hashlib.sha256(canvas.numpy().tobytes()).hexdigest()[:16] for canvas in images]
        self.steps.append({"epoch": epoch, "ids": target["ids"].clone(), "pictures": pictures, "loss": mean.item()})

    def _save(self) -> Path:
        if self.scenario.gather:
            self.loader.gather()
        checkpoint = {
            "model": self.plain.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
        }
        return self._write("checkpoint", checkpoint)

    def _write(self, key: str, value: Any) -> Path:
        path = self.out / f"{self.scenario.name}-{self.rank}.pt"
        torch.save({"steps": self.steps, "ledgers": self.ledgers, "failed": self.loader.failed, key: value}, path)
        if key == "checkpoint":
            torch.save(value, self.out / f"{self.scenario.name}-{self.rank}.state")
        self.loader.close()
        return path


def run_ranks(script: Sequence[str], ranks: int, seconds: float = 180) -> subprocess.CompletedProcess[str]:
    """Start a script of this folder under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    folder = Path(__file__).parent
    return subprocess.run(
        [*command, str(folder / script[0]), *script[1:]], capture_output=True, text=True, timeout=seconds, check=False
    )


def main() -> None:
    """Run the scenarios in a file, one after another; what a rank was refused with is written down."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    scenarios, out = torch.load(sys.argv[1], weights_only=False), Path(sys.argv[2])
    for scenario in scenarios:
        try:
            Runner(scenario, out).run()
        except MixloaderError as error:
            (out / f"{scenario.name}-{dist.get_rank()}.error").write_text(str(error))
        dist.barrier()
    dist.destroy_process_group()
    # All is written. Of gloo's threads one was seen to abort the process while Python ended.
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.modules["helpers.ranked_run"] = sys.modules["__main__"]  # what the scenarios' file knows it as
    main()
