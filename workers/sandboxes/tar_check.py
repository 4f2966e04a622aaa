"""Check a tar from a sandbox while it is streamed.

The sandbox's user may have replaced the program that packed the tar. So its content is untrusted.
"""

import tarfile
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from api.domain.sandboxes import SandboxPathError

_BLOCK = tarfile.BLOCKSIZE
_MAX_NAME_BYTES = 1 << 20
_LONG_NAME_TYPES = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_FILE_TYPES = {tarfile.REGTYPE, tarfile.AREGTYPE}
_OTHER_TYPES = {tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE}


async def checked_tar(chunks: AsyncIterator[bytes], top: str) -> AsyncIterator[bytes]:
    """Yield the chunks of a tar whose members and links all stay below the folder `top`.

    A chunk is yielded only after all of its headers were checked.

    Raises:
        SandboxPathError: a member or link leads out of `top`. Or a member has a type that no
            folder's tar needs. Or the data is not a tar.
    """
    check = _TarChecker(top)
    async for chunk in chunks:
        check.feed(chunk)
        yield chunk
    check.finish()


class _TarChecker:
    def __init__(self, top: str) -> None:
        self._top = top
        self._block = bytearray()
        self._needed_bytes = _BLOCK
        self._skipped_bytes = 0
        self._long_name_type: bytes | None = None
        self._long_names: dict[bytes, str] = {}
        self._links: set[PurePosixPath] = set()
        self._ended = False

    def feed(self, chunk: bytes) -> None:
        start = 0
        while start < len(chunk):
            if self._skipped_bytes:
                consumed = min(self._skipped_bytes, len(chunk) - start)
                self._skipped_bytes -= consumed
            else:
                consumed = min(self._needed_bytes - len(self._block), len(chunk) - start)
                self._block += chunk[start : start + consumed]
                if len(self._block) == self._needed_bytes:
                    block, self._block, self._needed_bytes = bytes(self._block), bytearray(), _BLOCK
                    self._read_block(block)
            start += consumed

    def finish(self) -> None:
        if not self._ended or self._skipped_bytes or self._block:
            raise _refused("its end marker is missing")

    def _read_block(self, block: bytes) -> None:
        if self._long_name_type is not None:
            self._long_names[self._long_name_type] = block.split(b"\0", 1)[0].decode(errors="surrogateescape")
            self._long_name_type = None
        elif not any(block):
            self._ended = True
        elif self._ended:
            raise _refused("data follows its end marker")
        else:
            self._read_header(block)

    def _read_header(self, block: bytes) -> None:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise _refused("it is not a tar") from error
        padded = -(-info.size // _BLOCK) * _BLOCK
        if info.type in _LONG_NAME_TYPES:
            if not 0 < info.size <= _MAX_NAME_BYTES:
                raise _refused("a name is too long")
            self._long_name_type, self._needed_bytes = info.type, padded
            return
        if not (info.type in _FILE_TYPES and info.size >= 0) and not (info.type in _OTHER_TYPES and info.size == 0):
            raise _refused("a member is not a file, folder or link")
        self._skipped_bytes = padded
        self._check_member(info)

    def _check_member(self, info: tarfile.TarInfo) -> None:
        name = self._check_name(self._long_names.pop(tarfile.GNUTYPE_LONGNAME, info.name))
        link = self._long_names.pop(tarfile.GNUTYPE_LONGLINK, info.linkname)
        if info.type == tarfile.LNKTYPE:
            self._check_name(link)
        elif info.type == tarfile.SYMTYPE:
            self._check_target(name, PurePosixPath(link))
            self._links.add(name)

    def _check_name(self, text: str) -> PurePosixPath:
        name = PurePosixPath(text)
        if name.is_absolute() or ".." in name.parts or name.parts[:1] != (self._top,):
            raise _refused("a name leads out of the folder")
        if not self._links.isdisjoint(name.parents):
            raise _refused("a name leads through a link")
        return name

    def _check_target(self, name: PurePosixPath, target: PurePosixPath) -> None:
        """Allow `..` only at the start of a link target, and not above `top`.

        A later `..` could follow another link out of the folder.
        """
        up = 0
        while target.parts[up : up + 1] == ("..",):
            up += 1
        if target.is_absolute() or up > len(name.parts) - 2 or ".." in target.parts[up:]:
            raise _refused("a link leads out of the folder")


def _refused(reason: str) -> SandboxPathError:
    return SandboxPathError(f"the sandbox's archive of the folder is refused: {reason}")
