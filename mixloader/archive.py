"""Archives: arrays by name in an `.npz` file, written whole or not at all, and read with nothing taken on trust."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixloader.atomic import write_atomically
from mixloader.errors import MixloaderError

Arrays = dict[str, npt.NDArray[Any]]


def save_arrays(path: str | Path, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write the arrays to a file. One that is killed meanwhile leaves the file that was there.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(values, order="C") for name, values in arrays.items()})
    write_atomically(Path(path), buffer.getbuffer())


def load_arrays(path: str | Path, names: Collection[str], what: str, writer: str) -> Arrays:
    """The arrays of these names. Nothing is unpickled, unpacked, or allocated that is not in the file.

    Args:
        path: of the file.
        names: what the file has to hold, no more and no less.
        what: is in it, for messages.
        writer: what writes such files, for messages.

    Raises:
        MixloaderError: it is missing, or no such file.
    """
    try:
        with Path(path).open("rb") as file, zipfile.ZipFile(file) as archive:
            _check_members(archive, {f"{name}.npy" for name in names}, os.fstat(file.fileno()).st_size)
            return {name: _read(archive, name) for name in names}
    except FileNotFoundError:
        raise MixloaderError(f"no {what} at {path}: {writer} writes one") from None
    except MemoryError:  # of a file that holds what it says
        raise
    except Exception as error:  # zipfile and numpy raise a dozen kinds for a file that is damaged
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise MixloaderError(f"{path} is no {what} file ({reason}): {writer} writes one") from None


def _check_members(archive: zipfile.ZipFile, expected: set[str], size: int) -> None:
    members = archive.infolist()
    found = [member.filename for member in members]
    if len(found) != len(expected) or set(found) != expected:
        raise MixloaderError(f"it holds {', '.join(map(repr, sorted(found)[:9]))}, not {', '.join(sorted(expected))}")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise MixloaderError(f"{member.filename} is compressed, which save never does")
    if (total := sum(member.file_size for member in members)) > size:
        raise MixloaderError(f"it has {size} bytes and says that it holds {total}")


def _read(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    data = archive.read(f"{name}.npy")  # of the size that the file has: members are stored as they are
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise MixloaderError(f"{name} has version {version} of numpy's format, not 1.0")
    try:
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    except MemoryError:  # it is Python's parser that runs out, of nested brackets
        raise MixloaderError(f"{name} has a header that cannot be read") from None
    if by_column:
        raise MixloaderError(f"{name} is stored by columns, which save never does")
    if dtype.hasobject or np.prod([*map(float, shape), float(dtype.itemsize)]) != len(data) - file.tell():
        raise MixloaderError(f"{name} is {dtype}{list(shape)[:9]}, and has {len(data) - file.tell()} bytes")
    if dtype == np.bool_ and np.frombuffer(data, np.uint8, offset=file.tell()).max(initial=0) > 1:
        # numpy would take it as it is, and then no two of its operations agree what it is.
        raise MixloaderError(f"{name} holds a byte that is neither true nor false")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape).copy()
