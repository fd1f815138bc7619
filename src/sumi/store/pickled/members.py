"""The members of a zip and of a tar: where each lies in the file, as far as PyTorch has ever written them.

Readers of zip files disagree on what to do with the contradictions that the format allows, which is how a file can look
harmless to one and not to the other. Here a contradiction is damage: the directory and the members say the same, lie apart,
and are stored as they are.
"""

import os
import struct
import zlib
from typing import BinaryIO

from sumi.store.pickled.inert import Refused, damaged, shown, too_much
from sumi.store.pickled.opcodes import MAX_PICKLE

MAX_MEMBERS = 50_000
MAX_DIRECTORY = 1 << 25
MAX_NAME = 1000


class Source:
    """A file of bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)

    def read(self, at: int, count: int) -> bytes:
        """Exactly `count` bytes from `at` on; Refused where the file has less."""
        if at < 0 or count < 0 or at + count > self.size:
            raise damaged("it is cut short")
        self.file.seek(at)
        pieces = []
        while count:
            piece = self.file.read(count)
            if not piece:
                raise damaged("it is cut short")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def head(self, at: int, count: int) -> bytes:
        return self.read(at, max(0, min(count, self.size - at)))


def zip_members(source: Source) -> dict[str, tuple[int, int, int]]:
    """Where the content of each member lies, its size and checksum. The directory and the members have to agree on everything."""
    start, count = _directory(source)
    members: dict[str, tuple[int, int, int]] = {}
    taken: list[tuple[int, int]] = []
    directory, at = source.read(*start), 0
    for _ in range(count):
        if len(directory) < at + 46:
            raise damaged("its zip directory is cut short")
        entry = struct.unpack_from("<4s6H3I5H2I", directory, at)
        mark, _, _, flags, method, _, _, check, packed, size, name_size, extra_size, comment_size, disk, _, _, header = entry
        at += 46
        if name_size > MAX_NAME or extra_size > MAX_NAME:
            raise damaged("its zip directory makes no sense")
        raw_name = directory[at : at + name_size]
        extra = directory[at + name_size : at + name_size + extra_size]
        at += name_size + extra_size + comment_size
        if mark != b"PK\x01\x02" or disk or at > len(directory):
            raise damaged("its zip directory makes no sense")
        size, packed, header = _large(extra, size, packed, header)
        name = raw_name.decode("utf-8")
        if flags & ~0x0808:
            raise damaged(f"member {shown(name)} is encrypted or odd")
        if method or size != packed:
            raise Refused("is compressed inside, so its numbers cannot be used where they lie: save it again with torch.save")
        if name in members:
            raise damaged(f"two members are called {shown(name)}")
        local = struct.unpack("<4s5H3I2H", source.read(header, 30))
        first = header + 30 + local[9] + local[10]
        unsaid = 0 if flags & 8 else None  # sizes and checksum may follow the content
        same = local[0] == b"PK\x03\x04" and local[2:4] == (flags, method) and source.read(header + 30, local[9]) == raw_name
        if not same or local[6] not in (check, unsaid) or any(said not in (size, 0xFFFFFFFF, unsaid) for said in local[7:9]):
            raise damaged(f"member {shown(name)} is not what the zip directory says")
        members[name] = (first, size, check)
        taken.append((header, first + size))
    taken.sort()
    if at != len(directory) or any(end > begin for (_, end), (begin, _) in zip(taken, [*taken[1:], (start[0], 0)], strict=True)):
        raise damaged("members of the zip lie over each other")
    return members


def _directory(source: Source) -> tuple[tuple[int, int], int]:
    """Where the directory of a zip lies (first byte, size), and how many entries it has; both forms, no comment at the end."""
    end = source.size - 22
    mark, disk, first_disk, here, count, size, at, comment = struct.unpack("<4s4H2IH", source.read(end, 22))
    if mark != b"PK\x05\x06" or comment or disk or first_disk or here != count:
        raise damaged("it has no zip directory at its end")
    if end >= 76 and source.read(end - 20, 4) == b"PK\x06\x07":
        _, disk, record, disks = struct.unpack("<4sIQI", source.read(end - 20, 20))
        end -= 76
        large = struct.unpack("<4sQ2H2I4Q", source.read(end, 56))
        zip64 = large[0] == b"PK\x06\x06" and large[1] == 44 and large[4] == large[5] == 0 and large[6] == large[7]
        if not zip64 or (disk, disks, record) != (0, 1, end):
            raise damaged("its zip directory makes no sense")
        for small, true, most in ((count, large[7], 0xFFFF), (size, large[8], 0xFFFFFFFF), (at, large[9], 0xFFFFFFFF)):
            if small not in (true, most):
                raise damaged("it has two zip directories")
        count, size, at = large[7:]
    if at + size != end or count > MAX_MEMBERS or size > MAX_DIRECTORY:
        raise damaged("its zip directory makes no sense")
    return (at, size), count


def _large(extra: bytes, *small: int) -> list[int]:
    """`small`, each of which is in `extra` instead where it is all ones."""
    large = b""
    while len(extra) >= 4:
        identity, length = struct.unpack_from("<2H", extra)
        if identity == 1:
            large = extra[4 : 4 + length]
        extra = extra[4 + length :]
    numbers = []
    for number in small:
        if number == 0xFFFFFFFF:
            if len(large) < 8:
                raise damaged("its zip directory makes no sense")
            number, large = int.from_bytes(large[:8], "little"), large[8:]
        numbers.append(number)
    return numbers


def zip_content(source: Source, at: int, size: int, check: int) -> bytes:
    """A member, whole. A checksum of zero is how PyTorch writes that it took none."""
    if size > MAX_PICKLE:
        raise too_much()
    data = source.read(at, size)
    if check and zlib.crc32(data) != check:
        raise damaged("a checksum is wrong")
    return data


def tar_header(block: bytes) -> tuple[str, int] | None:
    """Name and size of a plain file in a tar; None if the block is no header of one."""
    try:
        stated = int(block[148:156].strip(b" \0"), 8)
        size = int(block[124:136].strip(b" \0"), 8)
        name = block[:100].rstrip(b"\0").decode("ascii")
    except ValueError:
        return None
    if sum(block) - sum(block[148:156]) + 8 * 32 != stated or block[156:157] not in (b"0", b"\0") or size < 0:
        return None
    return name, size


def tar_members(source: Source) -> dict[str, tuple[int, int]]:
    members: dict[str, tuple[int, int]] = {}
    at = 0
    while at + 512 <= source.size and len(members) < 16:
        found = tar_header(source.read(at, 512))
        if found is None or found[0] in members:
            break
        name, size = found
        members[name] = (at + 512, size)
        at += 512 + -(-size // 512) * 512
    return members
