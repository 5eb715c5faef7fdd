"""JPEG: what its header says, and cutting out of the encoded bytes only what a window needs.

A JPEG with restart markers is a row of pieces that can be decoded apart from each other. Those under the window are
put behind a header with their size, which makes a smaller JPEG of the same pixels. Without markers the picture can at
least end below the window. Markers and their numbers: ITU-T T.81, B.1.1.3 and B.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Bytes = bytes | bytearray | memoryview
Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels."""

_MARGIN = 2  # pixels beyond the window that colour upsampling looks at
_WORTH = 0.85  # a larger part of the picture than this is not worth cutting out
_SOF_SEQUENTIAL, _SOF_PROGRESSIVE = (0xC0, 0xC1), 0xC2
_DHT, _SOS, _DRI, _APP1 = 0xC4, 0xDA, 0xDD, 0xE1
_END = b"\xff\xd9"
_ORIENTATION, _SHORT = 0x0112, 3  # an Exif tag, and the type of its value
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"Exif\0\0II*\0": "little", b"Exif\0\0MM\0*": "big"}


@dataclass(frozen=True, slots=True)
class Header:
    """What a decoder must know of a JPEG.

    Attributes:
        width: pixels, as stored: before any orientation.
        height: likewise.
        block: width and height of an MCU, the smallest unit of the encoded picture, pixels.
        interval: MCUs between two restart markers; 0 without.
        sequential: whether one scan holds the whole picture from top to bottom.
        frame: where the height stands in the bytes; the width follows it.
        scan: where the encoded picture begins.
        notes: the APP1 segments, Exif data or XMP, which may turn the picture.
    """

    width: int
    height: int
    block: tuple[int, int]
    interval: int
    sequential: bool
    frame: int
    scan: int
    notes: tuple[bytes, ...]

    @property
    def ambiguous(self) -> bool:
        """Whether decoders disagree on how the picture is turned: it says so twice, or in XMP. Pillow decides then."""
        twice = sum(note.startswith(b"Exif") for note in self.notes) > 1
        return twice or any(b"tiff:Orientation" in note for note in self.notes)

    @property
    def irregular(self) -> bool:
        """Whether its Exif data is not as it should be: decoders then read other orientations from it, or none."""
        return any(not is_regular(note) for note in self.notes if note.startswith(b"Exif"))


def read_header(data: Bytes) -> Header | None:
    """The header of a JPEG; None for what is none, is damaged, or is of a kind that only Pillow decodes (CMYK)."""
    try:
        return _read_header(data)
    except IndexError:  # it ends within the header
        return None


def _read_header(data: Bytes) -> Header | None:
    if data[0] != 0xFF or data[1] != 0xD8:
        return None
    at, interval, components, notes = 2, 0, 0, []
    width = height = frame = 0
    block, sequential = (8, 8), False
    while True:
        if data[at] != 0xFF:
            return None
        kind = data[at + 1]
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if kind in _SOF_SEQUENTIAL or kind == _SOF_PROGRESSIVE:
            frame, components = at + 5, data[at + 9]
            height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
            if components not in (1, 3) or data[at + 4] != 8 or not width or not height:
                return None
            sequential = kind in _SOF_SEQUENTIAL
            if components == 3:
                factors = [data[at + 11 + 3 * c] for c in range(3)]
                block = 8 * max(f >> 4 for f in factors), 8 * max(f & 15 for f in factors)
        elif 0xC0 <= kind <= 0xCF and kind != _DHT:
            return None  # lossless, hierarchical or arithmetic coding
        elif kind == _DRI:
            interval = data[at + 4] << 8 | data[at + 5]
        elif kind == _APP1:
            notes.append(bytes(data[at + 4 : at + 2 + length]))
        elif kind == _SOS:
            if not components:
                return None
            sequential = sequential and data[at + 4] == components
            return Header(width, height, block, interval, sequential, frame, at + 2 + length, tuple(notes))
        at += 2 + length


def is_regular(note: bytes) -> bool:
    """Whether decoders agree on what Exif data (behind `Exif` and two zeros) say of how the picture is turned.

    They do where there is a whole first directory, in which the orientation, if any, is one short number.
    """
    order = _ORDERS.get(note[:10])
    if order is None:
        return False
    first = 6 + int.from_bytes(note[10:14], order)
    begin = first + 2
    end = begin + 12 * int.from_bytes(note[first:begin], order)
    if not 14 <= first < begin < end <= len(note):
        return False
    wanted = tuple(_ORIENTATION.to_bytes(2, order))
    for i, tag in enumerate(zip(note[begin:end:12], note[begin + 1 : end : 12], strict=False)):
        if tag == wanted:
            at = begin + 12 * i
            kind, count = int.from_bytes(note[at + 2 : at + 4], order), int.from_bytes(note[at + 4 : at + 8], order)
            return (kind, count) == (_SHORT, 1)
    return True


def end_of(data: Bytes, header: Header) -> int | None:
    """Where the picture ends: the place of its last end marker; None where the file is cut short."""
    if data[-2:] == _END:
        return len(data) - 2
    place = bytes(data[header.scan :]).rfind(_END)
    return None if place < 0 else header.scan + place


def cut(data: Bytes, header: Header, end: int, box: Box) -> tuple[Bytes, int, int]:
    """A JPEG that shows the window, and as little else as the encoded bytes allow, with the same pixels.

    Args:
        data: the encoded image.
        header: its header.
        end: where it ends; see `end_of`.
        box: the window, pixels.

    Returns:
        The bytes (the image's own where nothing can be saved), and where in the image its pixel (0, 0) lies: x and y.
        They may go on behind the picture; the decoder must not mind.
    """
    if not header.sequential:
        return data, 0, 0
    grid = _Grid.of(header)
    x0, y0, x1, y1 = box
    columns = max(0, x0 - _MARGIN) // grid.width, min(grid.columns, (x1 + _MARGIN - 1) // grid.width + 1)
    rows = max(0, y0 - _MARGIN) // grid.height, min(grid.rows, (y1 + _MARGIN - 1) // grid.height + 1)
    kept = (columns[1] - columns[0]) * (rows[1] - rows[0])
    if grid.marked and kept < _WORTH * grid.columns * grid.rows:
        made = _cut_tiles(data, header, end, grid, columns, rows)
        if made is not None:
            return made, columns[0] * grid.width, rows[0] * grid.height
    bottom = ((y1 + _MARGIN - 1) // header.block[1] + 1) * header.block[1]
    if bottom < _WORTH * header.height:
        return _with_size(bytearray(data), header, header.width, bottom), 0, 0
    return data, 0, 0


@dataclass(frozen=True, slots=True)
class _Grid:
    """The pieces between restart markers as tiles of the picture.

    Attributes:
        columns: tiles in a row.
        rows: rows of tiles.
        width: of a tile, pixels.
        height: of a tile, pixels.
        marked: whether the pieces do make up such a grid.
    """

    columns: int
    rows: int
    width: int
    height: int
    marked: bool

    @classmethod
    def of(cls, header: Header) -> _Grid:
        across, down = -(-header.width // header.block[0]), -(-header.height // header.block[1])
        if header.interval and across % header.interval == 0:
            columns, rows = across // header.interval, down
            return cls(columns, rows, header.interval * header.block[0], header.block[1], marked=True)
        if header.interval and header.interval % across == 0:
            lines = header.interval // across
            return cls(1, -(-down // lines), header.width, lines * header.block[1], marked=True)
        return cls(1, 1, header.width, header.height, marked=False)


def _cut_tiles(
    data: Bytes,
    header: Header,
    end: int,
    grid: _Grid,
    columns: tuple[int, int],
    rows: tuple[int, int],
) -> bytearray | None:
    """A JPEG of the tiles from the first to before the second column and row; None where the markers do not fit."""
    starts = _starts(np.frombuffer(data, np.uint8)[header.scan : end])
    if len(starts) != grid.columns * grid.rows + 1:
        return None
    kept = np.s_[rows[0] : rows[1], columns[0] : columns[1]]
    begins, ends = (edges.reshape(grid.rows, grid.columns)[kept] + header.scan for edges in (starts[:-1], starts[1:]))
    runs = zip(begins[:, 0].tolist(), ends[:, -1].tolist(), strict=True)
    # The last piece of the picture is followed by its end marker, as long as a restart marker.
    made = bytearray(b"".join([data[: header.scan], *[data[start:stop] for start, stop in runs]]))
    markers = header.scan + np.cumsum(ends - begins) - 1
    np.frombuffer(made, np.uint8)[markers] = 0xD0 | (np.arange(len(markers), dtype=np.uint8) & 7)
    made[-1] = _END[1]
    width = min(header.width - columns[0] * grid.width, (columns[1] - columns[0]) * grid.width)
    height = min(header.height - rows[0] * grid.height, (rows[1] - rows[0]) * grid.height)
    return _with_size(made, header, width, height)


def _starts(scan: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Where every piece between markers begins, and where one behind the last would: int64 [pieces + 1]."""
    marks = (scan[1:] & 0xF8) == 0xD0
    marks &= scan[:-1] == 0xFF
    return np.concatenate(([0], np.flatnonzero(marks) + 2, [len(scan) + 2]))


def _with_size(data: bytearray, header: Header, width: int, height: int) -> bytearray:
    """The same bytes, in which another size stands now."""
    data[header.frame : header.frame + 4] = height.to_bytes(2) + width.to_bytes(2)
    return data
