"""Whatever stands in the files of a set: it opens and reads, or says what is wrong. It never hangs, dies or swells."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fuzzing import bounded, damaged, fuzz
from helpers.images import jpeg
from hypothesis import strategies as st

from mixloader.errors import ShardError
from mixloader.shards import ShardSet
from mixloader.shards.index import INDEX, MANIFEST

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def tar_of(form: str, long: bool = False, levels: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[form]) as tar:
        for i in range(3):
            key = f"folder/{'k' * 120 if long and form != 'ustar' else ''}é{i}" if form == "pax" else f"a{'b' * 90}/{i}"
            parts = {"jpg": jpeg(8 + i, 8, i), "cls": str(i).encode(), "json": json.dumps({"y": i}).encode()}
            for extension, data in (parts | ({"half.jpg": jpeg(4, 4)} if levels else {})).items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


TARS = {form: tar_of(form, long=True, levels=form != "ustar") for form in FORMATS}
"""Small ones of every kind."""


def outcome(folder: Path) -> str:
    """Open a set and read all of it: `opened`, `a sample refused`, or `refused`."""
    with bounded():
        try:
            opened = ShardSet(folder)
        except ShardError as error:
            assert_message(error)
            return "refused"
        found = "opened"
        for read in (lambda i: opened[i].data, lambda i: opened.stored(np.array([i])), lambda i: opened.data(i)):
            for i in range(len(opened)):
                try:
                    read(i)
                except ShardError as error:
                    assert_message(error)
                    found = "a sample refused"
        try:
            assert opened.sizes.shape == (len(opened), 2)
            assert (opened.labels >= -(1 << 63)).all()
        except ShardError as error:
            assert_message(error)
        opened.close()
        return found


def assert_message(error: ShardError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 2000


FIELDS = {
    "name": (0, 100),
    "size": (124, 136),
    "type": (156, 157),
    "link": (157, 257),
    "magic": (257, 265),
    "prefix": (345, 500),
}
EXTREMES = [
    b"\x80" + b"\0" * 11,
    b"\xff" * 12,
    b"\x80" + b"\xff" * 11,
    b"77777777777\0",
    b"-0000000001\0",
    b"0" * 12,
    b"\0" * 12,
    b"99 zz\0",
]
SPARSE = ("size", "major", "minor", "map", "numblocks", "realsize", "offset", "numbytes")
RECORDS = ["path", "size", "linkpath", "hdrcharset", "mtime", "uid", *(f"GNU.sparse.{name}" for name in SPARSE)]
VALUES = ["-1", "0", "1", "9" * 30, "1e9", "nan", "BINARY", "../../x.jpg", "0,1,2", "x" * 3000]
TYPES = b"0\x001234567gxLKSVMDNX\xff"


@st.composite
def forged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Fields of tar headers overwritten, with a checksum that fits."""
    data = bytearray(whole)
    headers = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(headers))
        field = draw(st.sampled_from(sorted(FIELDS)))
        start, stop = FIELDS[field]
        if field == "type":
            value = bytes([draw(st.sampled_from(list(TYPES)))])
        elif field == "size":
            value = draw(st.sampled_from(EXTREMES) | st.integers(0, 1 << 20).map(lambda n: b"%011o\0" % n))
        else:
            value = draw(
                st.binary(max_size=stop - start) | st.sampled_from([b"../../x.jpg\0", b"/etc/x.jpg\0", b"a.jpg"])
            )
        data[at + start : at + start + len(value)] = value
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % (sum(data[at : at + 512]) & 0o777777)
    return bytes(data)


@st.composite
def pax_records(draw: st.DrawFn) -> bytes:
    """A tar whose extended headers hold anything."""
    key, value = draw(st.sampled_from(RECORDS)), draw(st.sampled_from(VALUES) | st.text(max_size=20))
    body = f" {key}={value}\n".encode("utf-8", "surrogatepass")
    length = draw(st.sampled_from([len(body) + 2, len(body) + 3, 0, 1, 10**9, -5]))
    record = str(length).encode() + body
    info = tarfile.TarInfo("PaxHeader")
    info.size, info.type = len(record), draw(st.sampled_from([b"x", b"g", b"X"]))
    head = info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512)
    times = draw(st.sampled_from([1, 2, 1500]))
    return head * times + TARS["pax"]


def manifests(whole: dict[str, Any]) -> st.SearchStrategy[bytes]:
    anything = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from(["../x", "a.tar"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )

    def put(change: tuple[str, Any]) -> bytes:
        return json.dumps({**whole, change[0]: change[1]}).encode()

    def put_in_shard(change: tuple[str, Any]) -> bytes:
        return json.dumps({**whole, "shards": [{**whole["shards"][0], change[0]: change[1]}]}).encode()

    return (
        st.tuples(st.sampled_from(sorted(whole)), anything).map(put)
        | st.tuples(st.sampled_from(sorted(whole["shards"][0])), anything).map(put_in_shard)
        | damaged(json.dumps(whole).encode())
        | st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"", b"\xff\xfe", b"NaN"])
    )


def indexes(whole: bytes) -> st.SearchStrategy[bytes]:
    length = 10 + int.from_bytes(whole[8:10], "little")
    rows = bytearray(whole[length:])

    def with_header(text: bytes) -> bytes:
        text = text[:60_000]
        return whole[:8] + len(text).to_bytes(2, "little") + text + bytes(rows)

    header = whole[10:length]
    return (
        damaged(whole)
        | damaged(header).map(with_header)
        | damaged(bytes(rows)).map(lambda data: whole[:length] + data)
        | st.sampled_from(
            [
                b"(" * 50_000,
                b"{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
                header.replace(b"(3,)", b"(999999999999,)"),
                header.replace(b"(3,)", b"(-3,)"),
                header.replace(b"<i8", b"<i4"),
                header.replace(b"<i8", b"|O8"),
            ]
        ).map(with_header)
    )


KINDS = ["tar bytes", "tar headers", "tar extended headers", "manifest", "index"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_of_a_set_opens_or_is_refused(kind: str, thorough: bool, note: Any, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.tar").write_bytes(TARS["pax"])
    assert len(ShardSet(tmp_path / "good")) == 3
    good = {path.name: path.read_bytes() for path in (tmp_path / "good").iterdir()}
    found: Counter[str] = Counter()

    def each(data: st.DataObject) -> None:
        files = {"a.tar": TARS[data.draw(st.sampled_from(sorted(TARS)))]}
        if kind == "tar bytes":
            files["a.tar"] = data.draw(damaged(files["a.tar"]))
        elif kind == "tar headers":
            files["a.tar"] = data.draw(forged(files["a.tar"]))
        elif kind == "tar extended headers":
            files["a.tar"] = data.draw(pax_records())
        elif kind == "manifest":
            # One that a scan is checked against, and one that is taken as it is: `made_from` tells them apart.
            whole = {**json.loads(good[MANIFEST]), "made_from": data.draw(st.sampled_from([None, "x"]))}
            files = {**good, MANIFEST: data.draw(manifests(whole))}
        else:
            whole = {**json.loads(good[MANIFEST]), "made_from": "x"}
            files = {**good, MANIFEST: json.dumps(whole).encode(), INDEX: data.draw(indexes(good[INDEX]))}
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            found[outcome(Path(folder))] += 1

    fuzz(each, 20_000 if thorough else 150)
    note(f"fuzz: {kind}", executions=found.total(), **found)
    assert len(found) > 1  # it reaches more than the first check
