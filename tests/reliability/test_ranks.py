"""Several ranks train as one does: real processes under torchrun, with DDP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.images import cls_members, write_tar
from helpers.loaders import write_damaged
from helpers.ranked_run import EPOCHS, POLICIES, Runner, Scenario, run_ranks

from mixloader.errors import MixloaderError
from mixloader.loader import MixLoader

SAMPLES, STEPS = 45, 4  # the last batch has 3 samples: of four ranks, one may have none


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("many")
    write_tar(folder / "a.tar", cls_members([i % 5 for i in range(SAMPLES)]))
    return str(folder)


def together(scenarios: list[Scenario], ranks: int, out: Path) -> None:
    torch.save(scenarios, out / "scenarios")
    ended = run_ranks(["ranked_run.py", str(out / "scenarios"), str(out)], ranks)
    assert ended.returncode == 0, ended.stderr[-3000:]


def journals(name: str, ranks: int, out: Path) -> list[dict[str, Any]]:
    return [torch.load(out / f"{name}-{rank}.pt", weights_only=False) for rank in range(ranks)]


def assert_same_run(alone: dict[str, Any], parts: list[dict[str, Any]], first: int = 0) -> None:
    """The ranks draw the canvases of the one that is alone, each exactly once, and learn the same from them."""
    ranks, steps = len(parts), alone["steps"][first:]
    for part in parts:
        assert len(part["steps"]) == len(steps)
    for s, whole in enumerate(steps):
        shares = [part["steps"][s] for part in parts]
        assert {share["epoch"] for share in shares} == {whole["epoch"]}
        assert len({share["ids"].shape for share in shares}) == 1  # as many canvases each
        for canvas, ids in enumerate(whole["ids"]):
            share = shares[canvas % ranks]
            assert torch.equal(share["ids"][canvas // ranks], ids)
            if (ids >= 0).any():
                assert share["pictures"][canvas // ranks] == whole["pictures"][canvas]
        drawn = torch.cat([share["ids"].flatten() for share in shares])
        assert sorted(drawn[drawn >= 0].tolist()) == sorted(whole["ids"][whole["ids"] >= 0].tolist())
        for share in shares:
            assert share["loss"] == pytest.approx(whole["loss"], rel=2e-5)
    for epoch in range(-len(parts[0]["ledgers"]), 0):
        for name, column in alone["ledgers"][epoch].items():
            found = [part["ledgers"][epoch][name] for part in parts]
            if name == "fingerprint":
                continue
            bits = [each.view(torch.int32) for each in found]
            assert all(torch.equal(each, bits[0]) for each in bits), name
            torch.testing.assert_close(found[0], column, rtol=2e-5, atol=1e-6, equal_nan=True)


@pytest.fixture(scope="module")
def alone(many: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Journals of one process without torch.distributed, by policy; with a checkpoint within an epoch."""
    out = tmp_path_factory.mktemp("alone")
    found = {}
    for policy in POLICIES:
        found[policy] = torch.load(Runner(Scenario(policy, many, policy), out).run(), weights_only=False)
    Runner(Scenario("stopped", many, stop=(1, 2)), out).run()
    found["stopped"] = {"state": str(out / "stopped-0.state")}
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ranks" in metafunc.fixturenames:
        metafunc.parametrize("ranks", [1, 2, 3, 4] if metafunc.config.getoption("--thorough") else [3])


def test_ranks_train_as_one_process_does_and_may_be_others_after_a_stop(
    many: str, alone: dict[str, Any], ranks: int, tmp_path: Path, note: Any
) -> None:
    scenarios = [Scenario(policy, many, policy) for policy in POLICIES]
    scenarios += [
        Scenario("grown", many, state=alone["stopped"]["state"]),  # one process went on with several
        Scenario("stopped", many, stop=(1, 2)),
        Scenario("resumed", many, state=str(tmp_path / "stopped-0.state")),  # from rank 0's, for all
        Scenario("apart", many, stop=(2, 1), gather=False),
        Scenario("apart-resumed", many, state=str(tmp_path / "apart-{rank}.state")),  # every rank from its own
    ]
    together(scenarios, ranks, tmp_path)
    for policy in POLICIES:
        assert_same_run(alone[policy], journals(policy, ranks, tmp_path))
    assert len(alone["mixtrain"]["steps"]) == EPOCHS * STEPS
    assert_same_run(alone["mixtrain"], journals("grown", ranks, tmp_path), first=STEPS + 2)
    assert_same_run(alone["mixtrain"], journals("resumed", ranks, tmp_path), first=STEPS + 2)
    assert_same_run(alone["mixtrain"], journals("apart-resumed", ranks, tmp_path), first=2 * STEPS + 1)

    fewer = Runner(Scenario("fewer", many, state=str(tmp_path / "stopped-0.state")), tmp_path)
    assert_same_run(alone["mixtrain"], [torch.load(fewer.run(), weights_only=False)], first=STEPS + 2)
    note(f"ranks: {ranks}", policies=sorted(POLICIES), epochs=EPOCHS, samples=SAMPLES, resumed_from=[1, ranks])


def test_ranks_that_are_not_about_to_do_the_same_are_told_so(many: str, alone: dict[str, Any], tmp_path: Path) -> None:
    """Before a single batch: not one of them trains on something else than the others believe."""
    state, other = tmp_path / "of-{rank}", torch.load(alone["stopped"]["state"])
    torch.save(other, str(state).format(rank=0))
    other["loader"]["step"] = 3
    torch.save(other, str(state).format(rank=1))
    together([Scenario("torn", many, state=str(state))], 2, tmp_path)
    messages = {(tmp_path / f"torn-{rank}.error").read_text() for rank in range(2)}
    (message,) = messages
    assert "epoch is 1, batch 2 on rank 0, 1, batch 3 on rank 1" in message


def test_what_one_rank_cannot_draw_all_know_of_after_the_epoch(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    shards = str(write_damaged(tmp_path / "shards"))
    together([Scenario("damaged", shards, "whole", batch_size=7)], 3, tmp_path)
    parts = journals("damaged", 3, tmp_path)
    for part in parts:
        assert list(part["failed"]) == [5, 7]
    for step in range(4 * EPOCHS):
        drawn = torch.cat([part["steps"][step]["ids"].flatten() for part in parts])
        assert not {5, 7} & set(drawn.tolist())  # and their slots are empty


def test_a_rank_that_waits_for_the_others_says_so(many: str) -> None:
    ended = run_ranks(["late_rank.py", many], 2)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "rank 0 of 2 waits for the others" in ended.stderr
    assert "group=None" in ended.stderr


def test_processes_that_do_not_know_each_other_do_not_train_on_everything(
    many: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    words = r"WORLD_SIZE=4 .* call torch.distributed.init_process_group"
    with MixLoader(many, 7, 64, threads=1) as loader, pytest.raises(MixloaderError, match=words):
        iter(loader)
    with MixLoader(many, 7, 64, threads=1, group=None) as loader:
        assert len(list(loader)) == 7
