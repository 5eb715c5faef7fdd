"""Getting a race ready: its data in every form that is needed, its plans, and how each contestant is started."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mixloader.errors import MixloaderError
from mixloader.plan import Plan
from mixloader.shards import ShardSet
from mixloader.tools.bench.loader.contestants import RIVALS, Contestant
from mixloader.tools.bench.loader.data import (
    Folders,
    Repeated,
    write_chunks,
    write_jpegs,
    write_set,
    write_tars,
)
from mixloader.tools.bench.loader.plans import open_loader
from mixloader.tools.bench.loader.race import Start
from mixloader.tools.sharding.sources import Source


@dataclass
class Stage:
    """Everything that a race's contestants read, below one folder.

    Attributes:
        folders: where.
        environment: the rivals'.
        missing: why something could not be made, by its name; the contestants that need it are named with it.
    """

    folders: Folders
    environment: Path
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def shards(self) -> ShardSet:
        """The plain set."""
        return ShardSet(self.folders.shards("plain"))

    def set_up(
        self, source: Source, images: int, contestants: Sequence[Contestant], report: Callable[[str], object]
    ) -> None:
        """Write the shards and the JPEGs.

        Args:
            source: the images.
            images: of an epoch, at least; they are repeated.
            contestants: who reads them.
            report: is told how it goes.
        """
        repeated = Repeated(source, -(-images // len(source)))
        for name in dict.fromkeys(["plain", *(c.shards for c in contestants)]):
            report(f"writing {len(repeated):,} images, {name} shards")
            try:
                write_set(name, repeated, self.folders.shards(name))
            except MixloaderError as error:
                if name == "plain":
                    raise
                self.missing[name] = str(error)
        write_jpegs(self.shards, self.folders.jpegs)
        failed = self.environment / "failed.json"
        if failed.exists():
            reasons = json.loads(failed.read_text())
            self.missing |= {name: f"{name} could not be installed: {reason}" for name, reason in reasons.items()}

    def add_plan(self, name: str, image_size: int, threads: Sequence[int], contestants: Sequence[Contestant]) -> Path:
        """Save a plan, and write what streaming contestants read, in its order."""
        path = self.folders.plan(name)
        with open_loader(self.folders.shards("plain"), name, image_size) as loader:
            loader.plan.save(path)
        programs = {c.program: c for c in contestants}
        stream = self.folders.stream(name)
        for count in threads if "webdataset_loader" in programs else ():
            write_tars(self.shards, Plan.load(path), stream / f"webdataset-{count}", count)
        if "litdata_loader" in programs and "litdata" not in self.missing:
            script, litdata = RIVALS / "litdata_loader.py", programs["litdata_loader"]
            try:
                write_chunks(litdata.python(self.environment), script, path, self.folders, stream / "litdata")
            except MixloaderError as error:
                self.missing["litdata"] = str(error)
        return path

    def start(self, contestant: Contestant, plan: str, threads: int) -> Start:
        """How a contestant is started, or why it cannot be."""
        for needed in (contestant.shards, *contestant.needs):
            if needed in self.missing:
                return Start(contestant, error=self.missing[needed])
        task = {
            "plan": str(self.folders.plan(plan)),
            "jpegs": str(self.folders.jpegs),
            "stream": str(self.folders.stream(plan)),
            "shards": str(self.folders.shards(contestant.shards)),
            "threads": threads,
            "options": contestant.options,
        }
        try:
            command = contestant.command(self.environment)
        except MixloaderError as error:
            return Start(contestant, error=str(error))
        variables = {"TMPDIR": str(self.folders.temporary)}
        if "spdl-io" in contestant.needs:
            variables["LD_LIBRARY_PATH"] = str(self.environment.resolve() / "ffmpeg")
        return Start(contestant, command, task, variables)


def rival_versions(environment: Path) -> dict[str, str]:
    """The versions of what is installed for the rivals; empty where they have no environment."""
    import importlib.metadata

    lines = (RIVALS / "requirements.txt").read_text().splitlines()
    wanted = {line.split()[-1].partition("==")[0] for line in lines if line and not line.startswith("#")}
    wanted |= {"numpy", "pillow"}  # which the others bring
    found = importlib.metadata.distributions(path=[str(p) for p in environment.glob("lib/python*/site-packages")])
    versions = {d.metadata["Name"].replace("_", "-"): d.version for d in found}
    return {name: version for name, version in sorted(versions.items()) if name in wanted}
