"""Making shards: killed, on a full disk, twice at once, from folders of anything. No image is lost in silence."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.bad_images import JPEG, animated, bad, odd
from helpers.command import call
from helpers.images import jpeg, write_image_folder
from helpers.sharding_runs import MANY, contents, shard_and_die

from mixloader.errors import MixloaderError
from mixloader.shards import ShardSet
from mixloader.shards.index import read_manifest
from mixloader.tools.sharding import sources
from mixloader.tools.sharding.folder import FolderSource
from mixloader.tools.sharding.writer import ShardOptions, write_shards

SCRIPT = Path(__file__).parents[1] / "helpers" / "sharding_runs.py"
PATIENCE = 60.0  # seconds that a run may take
OPTIONS = ShardOptions(shard_size=5, workers=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images, and two files that are none."""
    folder = write_image_folder(tmp_path_factory.mktemp("in"))
    (folder / "cat" / "page.jpg").write_bytes(b"<html>404</html>")
    (folder / "owl" / "cut.jpg").write_bytes(JPEG[:300])
    return folder


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is made of them undisturbed."""
    dest = tmp_path_factory.mktemp("whole")
    write_shards(FolderSource(source), dest, options=OPTIONS)
    return dest


def accounted(dest: Path) -> int:
    """Images that are in the shards, or named as left out."""
    manifest = read_manifest(dest)
    assert manifest is not None
    return len(ShardSet(dest)) + len(manifest.skipped)


def in_child(*arguments: Any) -> int | None:
    """The exit code of `shard_and_die` in a process that no thread of this one is in."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.sharding_runs"])
    process = context.Process(target=shard_and_die, args=arguments)
    process.start()
    process.join(PATIENCE)
    return process.exitcode


def test_a_run_killed_at_any_change_of_the_disk_goes_on_to_the_same_bytes(
    source: Path, whole: Path, tmp_path: Path, note: Any, thorough: bool
) -> None:
    expected, kills, at, dest = contents(whole), 0, 0, tmp_path / "out"
    while (code := in_child(source, dest, at)) != 0:
        assert code == -signal.SIGKILL
        if not (dest / "manifest.json").exists():
            with pytest.raises(MixloaderError):
                ShardSet(dest)
        assert in_child(source, dest, MANY) == 0
        assert contents(dest) == expected
        shutil.rmtree(dest)
        kills, at = kills + 1, at + (1 if thorough else 13)
    assert kills > 5
    note("sharding kills at a change of the disk", kills=kills, of=at, same_bytes=True)


def test_a_command_killed_again_and_again_goes_on_to_the_same_bytes(
    source: Path, whole: Path, tmp_path: Path, note: Any, thorough: bool
) -> None:
    chance, dest, kills, runs = random.Random(0), tmp_path / "out", 0, 0
    while kills < (20 if thorough else 3):
        command = [sys.executable, str(SCRIPT), "slow", str(source), str(dest), str(runs)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 0.3))
        process.kill()
        kills, runs = kills + (process.wait() == -signal.SIGKILL), runs + 1
        if process.returncode == 0 or runs % 4 == 0:  # and from the beginning
            write_shards(FolderSource(source), dest, options=OPTIONS)
            assert contents(dest) == contents(whole)
            shutil.rmtree(dest)
        process.stdout.close()
    write_shards(FolderSource(source), dest, options=OPTIONS)
    assert contents(dest) == contents(whole)
    assert accounted(dest) == 26
    note("sharding kills", kills=kills, runs=runs, same_bytes=True, images_lost=0)


def test_two_runs_at_once_do_not_write_into_each_others_shards(source: Path, whole: Path, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        if done == 7:
            with pytest.raises(MixloaderError, match="another run is writing to"):
                write_shards(FolderSource(source), tmp_path / "out", options=OPTIONS)

    write_shards(FolderSource(source), tmp_path / "out", options=OPTIONS, progress=second)
    assert contents(tmp_path / "out") == contents(whole)


@pytest.fixture
def own_mounts() -> list[str]:
    """What runs a command where it may mount disks that nobody else sees."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a disk of their own")
    return unshare


def test_a_disk_that_is_full_at_any_moment_is_one_line_and_nothing_is_lost(
    own_mounts: list[str], source: Path, whole: Path, tmp_path: Path, note: Any
) -> None:
    (tmp_path / "disk").mkdir()
    command = [*own_mounts, sys.executable, str(SCRIPT), "fill_up", source, tmp_path / "disk", whole]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=4 * PATIENCE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    failures = [line for line in done.stderr.splitlines() if not line.startswith("left out: ")]
    assert found["status"] == 0
    assert found["same"]
    assert found["failed"] == len(failures) > 20
    assert {line.partition("(")[2].partition(")")[0] for line in failures} == {"No space left on device"}
    assert all(
        line.endswith("make room or access there, then run the same command again, it goes on from there")
        for line in failures
    )
    note("sharding on a full disk", times_full=found["failed"], lines_each=1, same_bytes=True, images_lost=0)


def test_a_file_that_may_not_grow_is_one_line_and_nothing_is_lost(source: Path, whole: Path, tmp_path: Path) -> None:
    """As where a quota is used up: also where no disk can be mounted."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
        "from helpers.sharding_runs import command; sys.exit(command(*sys.argv[2:]))"
    )
    arguments = [str(source), str(tmp_path / "out"), "--shard-size", "5", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    for limit in (10, 3_000):
        done = subprocess.run(
            [sys.executable, "-c", code, str(limit), *arguments], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 2
        assert "(File too large): make room" in done.stderr
        assert done.stderr.count("\n") == 1
    write_shards(FolderSource(source), tmp_path / "out", options=OPTIONS)
    assert contents(tmp_path / "out") == contents(whole)


Command = Callable[..., tuple[int, dict[str, str], list[str]]]


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command on a source: its exit status, what it left out and why, and its lines on standard error."""

    def run(source: Path) -> tuple[int, dict[str, str], list[str]]:
        status = call(monkeypatch, "shard", source, tmp_path / "out", "--workers", "2")
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert printed.out.count("\n") == (status == 0)
        manifest = read_manifest(tmp_path / "out")
        left_out = {} if manifest is None else {skipped.source: skipped.reason for skipped in manifest.skipped}
        assert all(reason.isprintable() for reason in left_out.values())
        return status, left_out, printed.err.splitlines()

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three images each, which every set below has besides what is wrong with it."""
    folder = tmp_path / "in"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            (folder / name / f"fine{i}.jpg").write_bytes(jpeg(40, 30, i))
    return folder


@pytest.fixture(scope="module")
def noted(note: Any) -> Iterator[dict[str, str]]:
    """What each kind of a bad source got."""
    got: dict[str, str] = {}
    yield got
    note("sharding sources", **got)


def names(dest: Path) -> set[str]:
    shards = ShardSet(dest)
    return {shards[i].key for i in range(len(shards))}


FINE = {f"{label}/fine{i}" for label in ("cat", "dog") for i in range(3)}


def test_links_are_followed_but_not_to_where_they_come_from(
    folder: Path, tmp_path: Path, sharded: Command, noted: dict[str, str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs.jpg").write_bytes(jpeg(30, 40))
    links = {
        "cat/file.jpg": outside / "theirs.jpg",
        "cat/more": outside,
        "cat/itself": folder / "cat",
        "cat/up": folder,
        "cat/far up": tmp_path,
        "cat/nothing.jpg": tmp_path / "absent.jpg",
        "cat/nothing": tmp_path / "absent",
        "cat/circle.jpg": folder / "cat" / "circle.jpg",
        "dog/circle": folder / "dog" / "circle",
        "dog/ring/back": folder / "dog",
        "source": folder,
    }
    (folder / "dog" / "ring").mkdir()
    for name, target in links.items():
        (folder / name).symlink_to(target)
    status, left_out, _ = sharded(folder)
    assert status == 0
    upwards = "is not entered: it is a link to a folder that it lies in"
    nothing = "cannot be read: it is a link to nothing"
    expected = {"cat/up": upwards, "cat/far up": upwards, "source": upwards}
    expected |= dict.fromkeys(("cat/nothing.jpg", "cat/nothing", "cat/circle.jpg", "dog/circle"), nothing)
    assert left_out == expected
    assert names(tmp_path / "out") == {*FINE, "cat/file", "cat/more/theirs"}
    noted |= {
        "link to a file, to a folder": "written",
        "link to a folder that it lies in": "left out: " + upwards,
        "link to nothing, to itself": "left out: " + nothing,
    }


def test_a_class_that_is_a_link_to_nothing_stops_the_command(
    folder: Path, tmp_path: Path, sharded: Command, noted: dict[str, str]
) -> None:
    """All labels after it would be others."""
    (folder / "bird").symlink_to(tmp_path / "absent")
    status, _, lines = sharded(folder)
    assert status == 2
    assert lines == [f"{folder}/bird is a link to nothing: repair it or take it away"]
    noted["class that is a link to nothing"] = "refused"


class Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def no_privileges() -> Iterator[None]:
    """What root may not be kept from, this thread may be, and the threads that it starts."""
    libc, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0)
    now, none = (Capabilities * 2)(), (Capabilities * 2)()
    assert libc.capget(header, now) == 0
    for found, reduced in zip(now, none, strict=True):
        reduced.permitted, reduced.inheritable = found.permitted, found.inheritable
    assert libc.capset(header, none) == 0
    try:
        yield
    finally:
        assert libc.capset(header, now) == 0


def test_files_and_folders_that_may_not_be_read_are_named(
    folder: Path, tmp_path: Path, sharded: Command, noted: dict[str, str]
) -> None:
    (folder / "cat" / "closed").mkdir()
    (folder / "cat" / "closed" / "inside.jpg").write_bytes(jpeg())
    (folder / "owl").mkdir()
    (folder / "owl" / "inside.jpg").write_bytes(jpeg())
    (folder / "dog" / "closed.jpg").write_bytes(jpeg())
    closed = [folder / name for name in ("cat/closed", "owl", "dog/closed.jpg")]
    for path in closed:
        path.chmod(0)
    try:
        with no_privileges():
            status, left_out, _ = sharded(folder)
    finally:
        for path in closed:
            path.chmod(0o700)
    assert status == 0
    assert left_out == {
        "cat/closed": "cannot be listed: Permission denied",
        "dog/closed.jpg": "cannot be read: Permission denied",
        "owl": "cannot be listed: Permission denied",
    }
    assert names(tmp_path / "out") == FINE
    assert ShardSet(tmp_path / "out").classes == ("cat", "dog", "owl")
    noted |= {
        "file that may not be read": "left out: cannot be read: Permission denied",
        "folder that may not be listed": "left out: cannot be listed: Permission denied",
    }


def test_names_of_all_kinds_are_written_or_named(
    folder: Path, tmp_path: Path, sharded: Command, noted: dict[str, str]
) -> None:
    odd_names = [
        b"line\nbreak.jpg",
        b"not utf-8 \xff\xfe.jpg",
        b"not utf-8 \xff\xfd.jpg",
        b"x" * 251 + b".jpg",
        b"a..jpg",
        b"-n.jpg",
        b"[red] \x1b[31m.jpg",
        b"back\\slash.JPEG",
        b"\xe2\x80\xae.jpg",
        b" .jpg",
    ]
    for name in odd_names:
        Path(os.fsdecode(os.fsencode(folder / "cat") + b"/" + name)).write_bytes(jpeg())
        Path(os.fsdecode(os.fsencode(folder / "dog") + b"/bad " + name[-240:])).write_bytes(b"bad")
    strange = Path(os.fsdecode(os.fsencode(folder) + b"/a\nclass \xff"))
    strange.mkdir()
    (strange / "one.jpg").write_bytes(jpeg())
    status, left_out, lines = sharded(folder)
    assert status == 0
    opened = ShardSet(tmp_path / "out")
    assert len(opened) == len(names(tmp_path / "out")) == 6 + len(odd_names) + 1
    assert opened.classes[0] == strange.name
    assert {os.fsencode(name) for name in left_out} == {b"dog/bad " + name[-240:] for name in odd_names}
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    noted["names with line breaks, escapes, bytes that are no UTF-8; 255 bytes long"] = "written"


def test_folders_deeper_than_a_path_may_be_are_named(
    folder: Path, tmp_path: Path, sharded: Command, noted: dict[str, str]
) -> None:
    here = os.open(folder / "cat", os.O_DIRECTORY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("deep.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    status, left_out, _ = sharded(folder)
    assert status == 0
    assert [*left_out.values()] == ["cannot be listed: File name too long"]
    noted["folder whose path is longer than 4,096 bytes"] = "left out: " + left_out.popitem()[1]


def test_what_is_no_ordinary_file_is_not_read(
    folder: Path, tmp_path: Path, sharded: Command, noted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = folder / "cat"
    os.mkfifo(cat / "pipe.jpg")
    for name, device in (("zero.jpg", "/dev/zero"), ("terminal.jpg", "/dev/tty"), ("empty device.jpg", "/dev/null")):
        (cat / name).symlink_to(device)
    (cat / "folder.jpg").mkdir()
    (cat / "folder.jpg" / "inside.jpg").write_bytes(jpeg())
    (cat / "nothing in it.jpg").write_bytes(b"")
    with (cat / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.chdir(cat)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        status, left_out, _ = sharded(folder)
    assert status == 0
    no_file = "cannot be read: it is no ordinary file"
    kinds = ("pipe", "zero", "terminal", "empty device", "socket")
    assert left_out == dict.fromkeys((f"cat/{name}.jpg" for name in kinds), no_file) | {
        "cat/huge.jpg": f"cannot be read: it has {1 << 40:,} bytes, images have at most {sources.MOST_BYTES:,}",
        "cat/nothing in it.jpg": "cannot be decoded: it is no image of a known format "
        "(JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM)",
    }
    assert names(tmp_path / "out") == {*FINE, "cat/folder.jpg/inside"}
    noted |= {
        "pipe, socket, device": "left out: " + no_file,
        "file of 1 TB": "left out: " + left_out["cat/huge.jpg"],
        "empty file": "left out: " + left_out["cat/nothing in it.jpg"],
        "folder named .jpg": "entered",
    }


def test_files_that_go_away_or_become_something_else_while_they_are_listed_and_read(
    folder: Path, tmp_path: Path, noted: dict[str, str]
) -> None:
    opened = FolderSource(folder)
    for i in range(3):
        (folder / "cat" / f"fine{i}.jpg").unlink()
    os.mkfifo(folder / "cat" / "fine1.jpg")
    (folder / "cat" / "fine2.jpg").mkdir()
    shutil.rmtree(folder / "dog")
    summary = write_shards(SomeThere(opened), tmp_path / "out", options=OPTIONS)
    assert {skipped.source: skipped.reason for skipped in summary.manifest.skipped} == {
        "cat/fine0.jpg": "cannot be read: No such file or directory",
        "cat/fine1.jpg": "cannot be read: it is no ordinary file",
        "cat/fine2.jpg": "cannot be read: it is no ordinary file",
        **{f"dog/fine{i}.jpg": "cannot be read: No such file or directory" for i in range(3)},
    }
    noted["file or folder that goes away meanwhile"] = "left out: cannot be read: No such file or directory"


class SomeThere:
    """A source, and one image more that is there for sure."""

    def __init__(self, source: FolderSource) -> None:
        self.source, self.classes, self.fingerprint = source, source.classes, source.fingerprint

    def __len__(self) -> int:
        return len(self.source) + 1

    def __getitem__(self, i: int) -> sources.SourceImage:
        return self.source[i] if i < len(self.source) else sources.SourceImage("there", 0, "there", jpeg())


def test_bytes_of_all_kinds_are_written_or_named(
    folder: Path, tmp_path: Path, sharded: Command, noted: dict[str, str]
) -> None:
    (folder / "dog" / "nested").mkdir()
    for number, data in enumerate(bad().values()):
        (folder / "cat" / f"bad{number:02}.jpg").write_bytes(data)
    for number, data in enumerate(odd().values()):
        (folder / "dog" / "nested" / f"odd{number:02}.jpg").write_bytes(data)
    status, left_out, _ = sharded(folder)
    assert status == 0
    found = dict(zip(bad(), left_out.items(), strict=True))
    assert [source for source, _ in found.values()] == [f"cat/bad{number:02}.jpg" for number in range(len(bad()))]
    assert names(tmp_path / "out") == {*FINE, *(f"dog/nested/odd{number:02}" for number in range(len(odd())))}
    noted |= {kind: f"left out: {reason}" for kind, (_, reason) in found.items()}
    noted |= dict.fromkeys(odd(), "written")


def test_images_of_other_extensions_are_counted(
    folder: Path, tmp_path: Path, sharded: Command, noted: dict[str, str]
) -> None:
    for name in ("photo.jfif", "photo.jpg.txt", "photo", "photo.JPG"):
        (folder / "cat" / name).write_bytes(JPEG)
    (folder / "dog" / "moving.jpg").write_bytes(animated("GIF"))
    status, left_out, lines = sharded(folder)
    assert status == 0
    assert not left_out
    assert lines == ["passed over: 3 files that are no images by their names (1 .jfif, 1 .txt, 1 without extension)"]
    assert names(tmp_path / "out") == {*FINE, "cat/photo", "dog/moving"}
    noted["file of an extension that images do not have"] = "passed over, and counted in a line"
