"""Take a few files out of a tar that a user has uploaded.

The standard library reads extended headers of any size into memory, so the headers are read here.
"""

import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from workers.agent.runtime.errors import AgentError

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 2**20
_MOST_MEMBERS = 1_000
_LONGEST_NAME = 4_096
_LONGEST_HEADER = 2**16
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)


def extract(tar: Path, limits: Mapping[str, int], target: Path) -> None:
    """Write the files with these names, at the top or in one folder, to `target`.

    `limits` has the most bytes of each name. Other files are skipped. Links are refused.

    Raises:
        AgentError: `bad_export`.
    """
    with tar.open("rb") as file:
        long_name = None
        for _ in range(_MOST_MEMBERS):
            header = _header(file)
            if header is None:
                return
            after = file.tell() + -(-header.size // _BLOCK) * _BLOCK
            if header.type == tarfile.GNUTYPE_LONGNAME and header.size <= _LONGEST_NAME:
                long_name = file.read(header.size).split(b"\0", 1)[0].decode(errors="replace")
            elif header.type in _FILES:
                _extract_file(file, long_name or header.name, header.size, limits, target)
                long_name = None
            elif header.type in _EXTENDED and header.size <= _LONGEST_HEADER:
                _check_extended(file.read(header.size))
            elif header.type != tarfile.DIRTYPE:
                raise _bad("a member is not a file or a folder")
            file.seek(after)
    raise _bad(f"it has more than {_MOST_MEMBERS} members")


def _header(file: BinaryIO) -> tarfile.TarInfo | None:
    """Read the next header. Return None at the end marker."""
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise _bad("it ends before its end marker")
    if not any(block):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        raise _bad("it is not a tar") from None
    if header.size < 0:
        raise _bad("a member has a negative size")
    return header


def _check_extended(content: bytes) -> None:
    """Check that an extended header tells nothing of names and sizes. Times do not matter."""
    if b" path=" in content or b" size=" in content:
        raise _bad("an extended header has a name or a size; pack it with GNU tar")


def _extract_file(file: BinaryIO, name: str, size: int, limits: Mapping[str, int], target: Path) -> None:
    *folders, last = PurePosixPath(name).parts or ("",)
    if PurePosixPath(name).is_absolute() or ".." in folders:
        raise _bad("a name leads out of the folder")
    if last not in limits or len([folder for folder in folders if folder != "."]) > 1:
        return
    if size > limits[last]:
        raise _bad(f"{last} has more than {limits[last]} bytes")
    if (target / last).exists():
        raise _bad(f"it has {last} twice")
    with (target / last).open("xb") as out:
        while left := size - out.tell():
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise _bad(f"it ends within {last}")
            out.write(chunk)


def _bad(reason: str) -> AgentError:
    return AgentError("bad_export", f"the tar of the export cannot be used: {reason}")
