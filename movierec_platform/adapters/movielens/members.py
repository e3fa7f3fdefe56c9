"""The members of a zip archive, as streams within bounds; whatever is wrong with the zip is a UsageError."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from movierec_platform.errors import UsageError

MAX_MEMBER_BYTES = 8 * 1024**3
"""Ten times the ratings of ml-32m."""
MAX_TEXT_BYTES = 128 * 1024**2
"""Of a member that is read whole: thirty times the movies of ml-32m."""
MAX_RATIO = 100
"""Real sets shrink to a third or a fifth; only what is big and shrinks far more is a bomb."""
RATIO_COUNTS_FROM_BYTES = 64 * 1024**2
BLOCK_BYTES = 3 * 1024**2
MAX_LINE_BYTES = 1024**2
_DEFLATED_OR_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_HEAD_BYTES = 512
_OTHER_KINDS = (
    ("gzip", 0, b"\x1f\x8b"),
    ("bzip2", 0, b"BZh"),
    ("xz", 0, b"\xfd7zXZ\x00"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("rar", 0, b"Rar!"),
    ("tar", 257, b"ustar"),
    ("CSV", 0, b"userId,"),
    ("CSV", 0, b"movieId,"),
)
"""What else people give: its name, and the bytes that it has at this place."""
# What zipfile raises for damaged archives: nearly any byte of its tables can be wrong.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    ValueError,
)


class Members:
    """An open archive. What is read is checked against its checksum by the time that the last block is given."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._refuse_other_kinds(file.read(_HEAD_BYTES))
        with self._damage():
            self._zip = zipfile.ZipFile(file)

    @property
    def names(self) -> list[str]:
        return self._zip.namelist()

    def blocks(self, member: str, size: int = BLOCK_BYTES) -> Iterator[bytes]:
        """The member's bytes, `size` at a time. Never more than the archive says, and that is bounded."""
        self._allowed(self._zip.getinfo(member), MAX_MEMBER_BYTES)
        with self._damage():
            stream = self._zip.open(member)
        with stream:
            while True:
                with self._damage():
                    block = stream.read(size)
                if not block:
                    return
                yield block

    def whole(self, member: str) -> bytes:
        """All of a member's bytes."""
        self._allowed(self._zip.getinfo(member), MAX_TEXT_BYTES)
        return b"".join(self.blocks(member))

    def lines(self, member: str) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole lines, each with the number of its first line (from 1); without a byte order mark."""
        for number, block in self.whole_lines(member, self.blocks(member)):
            yield number, block.removeprefix(b"\xef\xbb\xbf") if number == 1 else block

    @staticmethod
    def whole_lines(member: str, blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """These blocks, cut where lines end, each with the number of its first line."""
        number, rest = 1, b""
        for block in blocks:
            cut = block.rfind(b"\n") + 1
            if cut:
                whole, rest = rest + block[:cut], block[cut:]
                yield number, whole
                number += whole.count(b"\n")
            else:
                rest += block
            if len(rest) > MAX_LINE_BYTES:
                raise UsageError(f"{member} line {number}: longer than {MAX_LINE_BYTES:,} bytes: {rest[:40]!r}...")
        if rest:
            yield number, rest

    def digest(self, members: Iterable[str], salt: str) -> str:
        """32 hex digits of the salt and these members' bytes; all of their checksums have been found right."""
        seen = hashlib.sha256(salt.encode())
        for member in members:
            seen.update(f"\n{self._zip.getinfo(member).file_size}\n".encode())
            for block in self.blocks(member):
                seen.update(block)
        return seen.hexdigest()[:32]

    def _refuse_other_kinds(self, head: bytes) -> None:
        """Raises UsageError for a file that begins as something else than a zip does."""
        if not head:
            raise UsageError(f"{self._name} is empty: give a GroupLens zip, such as ml-latest-small.zip")
        for kind, start, magic in _OTHER_KINDS:
            if head[start:].startswith(magic):
                raise UsageError(
                    f"{self._name} is a {kind} file, and a zip is what is read: unpack it, and pack its folder with "
                    "`zip -r set.zip FOLDER`"
                )
        if head.lstrip()[:1] == b"<":
            raise UsageError(f"{self._name} is a web page: give the address of the zip itself")

    def _allowed(self, member: zipfile.ZipInfo, most_bytes: int) -> None:
        """The member is one that may be read; UsageError says why not."""
        what = f"{member.filename} in {self._name}"
        if member.flag_bits & _ENCRYPTED:
            raise UsageError(f"{what} is encrypted; give an archive without a password, as GroupLens publishes them")
        if member.compress_type not in _DEFLATED_OR_STORED:
            raise UsageError(f"{what} is compressed by method {member.compress_type}; GroupLens uses deflate (8)")
        if member.file_size > most_bytes:
            raise UsageError(f"{what} would be {member.file_size:,} bytes; at most {most_bytes:,} are read")
        if member.file_size > max(RATIO_COUNTS_FROM_BYTES, MAX_RATIO * member.compress_size):
            raise UsageError(
                f"{what} would grow from {member.compress_size:,} to {member.file_size:,} bytes; "
                f"more than {MAX_RATIO} times is taken for a zip bomb"
            )

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise UsageError(
                f"{self._name} cannot be read as a zip archive ({error or type(error).__name__}); download it again"
            ) from error
