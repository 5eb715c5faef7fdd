"""The journal of a benchmark: what was written is found again, whatever killed the writer."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import relaxed
from hypothesis import given
from hypothesis import strategies as st

from mixloader.errors import MixloaderError
from mixloader.tools.bench.methods.journal import Journal

values = st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5) | st.booleans()
run_lists = st.lists(st.fixed_dictionaries({"name": values, "seed": st.integers(0, 3), "accuracy": values}), max_size=6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.jsonl"


@relaxed
@given(runs=run_lists)
def test_what_was_appended_is_found_by_its_key_here_and_by_the_next_process(runs: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "runs.jsonl")
        journal = Journal(path)
        for run in runs:
            journal.append(run)
        for reader in (journal, Journal(path)):
            for run in runs:
                found = reader.find({"name": run["name"], "seed": run["seed"]})
                assert found is not None
                assert (found["name"], found["seed"]) == (run["name"], run["seed"])
            assert reader.find({"name": "nobody's", "seed": 0}) is None


@relaxed
@given(runs=run_lists, data=st.data())
def test_a_file_cut_anywhere_loses_the_run_that_was_being_written_only(
    runs: list[dict[str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "runs.jsonl")
        journal = Journal(path)
        for number, run in enumerate(runs):
            journal.append({**run, "number": number})
        path.touch()
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        again, left = Journal(path), whole[:cut].count(b"\n")
        assert [again.find({"number": number}) is not None for number in range(len(runs))] == [
            number < left for number in range(len(runs))
        ]
        again.append({"number": "new"})
        assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [*range(left), "new"]


def test_a_key_must_match_in_every_value(path: Path) -> None:
    journal = Journal(path)
    journal.append({"name": "plain", "seed": 0, "accuracy": 91.5})
    assert journal.find({"name": "plain", "seed": 1}) is None
    assert journal.find({"name": "plain", "seed": 0, "device": "cuda"}) is None
    assert journal.find({"name": "plain", "seed": 0}) == {"name": "plain", "seed": 0, "accuracy": 91.5}


def test_no_file_holds_no_runs_and_opening_makes_none(path: Path) -> None:
    assert Journal(path).find({}) is None
    assert not path.exists()


@pytest.mark.parametrize(
    "line",
    [b"garbage", b"", b"[1, 2]", b"[]", b'[["name", 1]]', b"null", b"7", b'"plain"', b'{"name": ', b"\xff\xfe{}"],
)
def test_a_line_that_is_no_run_is_refused_with_its_file_and_number(path: Path, line: bytes) -> None:
    written = b'{"name": "a"}\n' + line + b'\n{"name": "b"}\n{"na'
    path.write_bytes(written)
    with pytest.raises(MixloaderError, match=r"runs\.jsonl, line 2, is no run") as caught:
        Journal(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == written  # nothing of what may be wanted is lost
