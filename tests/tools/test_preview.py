from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command import call
from helpers.runs import PAIRS
from PIL import Image

from mixloader.controller import Controller
from mixloader.errors import MixloaderError
from mixloader.ledger import LossLedger
from mixloader.plan import Plan
from mixloader.policies import Naive, Progressive
from mixloader.policies.policy import Policy, Run
from mixloader.shards import ShardSet
from mixloader.tools.sheet.contact_sheet import draw_contact_sheet
from mixloader.tools.sheet.excerpt import choose_canvases

ALARM = (255, 107, 107)


def make_plan(shards: ShardSet, policy: Policy, epoch: int = 0, *, size: int = 64, batch_size: int = 8) -> Plan:
    run = Run(len(shards), batch_size, size, 16, 3)
    ledger = LossLedger(len(shards))
    return Controller(policy, run, shards.sizes, ledger).plan(epoch, ledger.snapshot()).whole()


def has_colour(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == colour).all(axis=2).any())


@pytest.mark.parametrize(
    "policy", ["mixtrain", "pairs", "whole", "naive", "blend", "progressive", "packed", "infobatch"]
)
def test_every_policy_makes_a_picture(
    policy: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "sheet.png"
    size = ("--image-size", 64, "--stride", 16, "--batch-size", 8)
    assert call(monkeypatch, "preview", shards, "--out", out, "--policy", policy, *size) == 0
    with Image.open(out) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
    assert str(out) in capsys.readouterr().out


def test_the_default_epoch_shares(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Plan] = []

    def draw(shards: ShardSet, plan: Plan, **_: object) -> Image.Image:
        drawn.append(plan)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr("mixloader.tools.sheet.contact_sheet.draw_contact_sheet", draw)
    for policy in ("pairs", "naive", "packed"):
        assert call(monkeypatch, "preview", shards, "--out", tmp_path / "a.png", "--policy", policy) == 0
        assert np.bincount(drawn[-1].canvas).max() > 1


def test_a_saved_plan_and_its_ledger(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = ShardSet(shards)
    ledger = LossLedger(len(opened), fingerprint=opened.fingerprint)
    ledger.record(torch.arange(len(opened)), torch.linspace(0, 5, len(opened)))
    ledger.save(tmp_path / "ledger.npz")
    make_plan(opened, Naive()).save(tmp_path / "plan.npz")
    saved = ("--plan", tmp_path / "plan.npz")
    assert call(monkeypatch, "preview", shards, "--out", tmp_path / "a.png", *saved) == 0
    both = (*saved, "--ledger", tmp_path / "ledger.npz")
    assert call(monkeypatch, "preview", shards, "--out", tmp_path / "b.png", *both) == 0
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_errors_are_one_line_and_status_2(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        (("--plan", "p.npz", "--policy", "whole"), "give one"),
        (("--plan", tmp_path / "none.npz"), "no plan at"),
        (("--ledger", tmp_path / "none.npz"), "no ledger at"),
        (("--epoch", 90), "epoch 90"),
        (("--image-size", 50), "not a multiple"),
    ):
        assert call(monkeypatch, "preview", shards, "--out", tmp_path / "a.png", *arguments) == 2
        captured = capsys.readouterr().err
        assert words in captured
        assert captured.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_each_kind_is_chosen_and_shared_ones_first(shards: Path) -> None:
    opened = ShardSet(shards)
    packed = make_plan(opened, Progressive(packed=True, until=1.0))  # 24 samples: all in fours
    pairs = make_plan(opened, replace(PAIRS, speedup=1.2), epoch=1)  # some alone
    assert len(choose_canvases(packed, 4)) == 4
    members = np.bincount(pairs.canvas, minlength=pairs.canvases)[choose_canvases(pairs, 6)]
    assert list(members) == [2, 2, 2, 2, 1, 1]
    every = choose_canvases(pairs, 1000)
    assert sorted(every) == sorted(set(pairs.canvas))
    assert len(choose_canvases(pairs, 1)) == 1


def test_what_is_not_drawn_is_marked(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(shards, folder)
    opened = ShardSet(folder)
    whole = make_plan(opened, Naive())
    sheet = draw_contact_sheet(opened, whole, title="as it is")
    assert not has_colour(sheet, ALARM)
    holes = draw_contact_sheet(opened, whole.without(whole.slot == 1), title="as it is")
    assert holes.size[0] == sheet.size[0]
    assert holes != sheet
    for tar in folder.glob("*.tar"):
        raw = bytearray(tar.read_bytes())
        for i in range(len(opened)):
            data = bytes(opened[i].data)
            if (at := raw.find(data)) >= 0:
                raw[at : at + len(data)] = bytes(len(data))
        tar.write_bytes(raw)
    assert has_colour(draw_contact_sheet(ShardSet(folder), whole, title="damaged"), ALARM)


def test_plans_that_cannot_be_shown(shards: Path) -> None:
    opened = ShardSet(shards)
    plan = make_plan(opened, Naive())
    with pytest.raises(MixloaderError, match="draws nothing"):
        draw_contact_sheet(opened, plan.without(np.ones(len(plan), np.bool_)), title="")
    with pytest.raises(MixloaderError, match="draws sample 123"):
        draw_contact_sheet(opened, replace(plan, sample=plan.sample + 100), title="")


def test_long_and_foreign_texts_fit(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = ShardSet(shards)
    plan = make_plan(opened, Progressive(packed=True, until=1.0))
    plain = draw_contact_sheet(opened, plan, title="t", count=1)
    long = draw_contact_sheet(opened, plan, title="Où est le 鶴? " * 50, count=1)
    assert long.size == plain.size
    margin = np.asarray(long)[:, -20:]
    assert (margin == margin[0, 0]).all()
    names = tuple("Unaussprechlicher Name " * 9 + name for name in opened.classes)
    monkeypatch.setattr(ShardSet, "classes", names)
    named = draw_contact_sheet(opened, plan, title="t", count=1)
    assert named.size == plain.size
    changed = (np.asarray(named) != np.asarray(plain)).any(axis=(0, 2))
    assert changed[44:-44].any()  # the card's padding lies 32 + 12 pixels from the border
    assert not changed[:44].any()
    assert not changed[-44:].any()
