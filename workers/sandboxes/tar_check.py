"""A tar from a sandbox, checked while it streams by: what packed it may have been replaced by the sandbox's own user."""

import tarfile
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from api.domain.sandboxes import SandboxPathError

_BLOCK = tarfile.BLOCKSIZE
_MAX_NAME = 1 << 20
_NAMES = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE}
_OTHERS = {tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE}


async def checked_tar(chunks: AsyncIterator[bytes], top: str) -> AsyncIterator[bytes]:
    """Pass on a tar whose members all lie below the folder `top`, and whose links all lead there.

    A chunk goes out only after all of its headers were looked at. Raise SandboxPathError for any other tar, for kinds of
    members that a folder's tar does not need, and for what is no tar.
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
        self._need = _BLOCK
        self._skip = 0
        self._name_of: bytes | None = None
        self._long: dict[bytes, str] = {}
        self._links: set[PurePosixPath] = set()
        self._ended = False

    def feed(self, chunk: bytes) -> None:
        start = 0
        while start < len(chunk):
            if self._skip:
                taken = min(self._skip, len(chunk) - start)
                self._skip -= taken
            else:
                taken = min(self._need - len(self._block), len(chunk) - start)
                self._block += chunk[start : start + taken]
                if len(self._block) == self._need:
                    block, self._block, self._need = bytes(self._block), bytearray(), _BLOCK
                    self._take(block)
            start += taken

    def finish(self) -> None:
        if not self._ended or self._skip or self._block:
            raise _refused("it has no end")

    def _take(self, block: bytes) -> None:
        if self._name_of is not None:
            self._long[self._name_of] = block.split(b"\0", 1)[0].decode(errors="surrogateescape")
            self._name_of = None
        elif not any(block):
            self._ended = True
        elif self._ended:
            raise _refused("it goes on after its end")
        else:
            self._take_header(block)

    def _take_header(self, block: bytes) -> None:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise _refused("it is no tar") from error
        padded = -(-info.size // _BLOCK) * _BLOCK
        if info.type in _NAMES:
            if not 0 < info.size <= _MAX_NAME:
                raise _refused("a name is too long")
            self._name_of, self._need = info.type, padded
            return
        if not (info.type in _FILES and info.size >= 0) and not (info.type in _OTHERS and info.size == 0):
            raise _refused("a member is neither file, folder nor link")
        self._skip = padded
        self._check(info)

    def _check(self, info: tarfile.TarInfo) -> None:
        name = self._inside(self._long.pop(tarfile.GNUTYPE_LONGNAME, info.name))
        link = self._long.pop(tarfile.GNUTYPE_LONGLINK, info.linkname)
        if info.type == tarfile.LNKTYPE:
            self._inside(link)
        elif info.type == tarfile.SYMTYPE:
            self._check_target(name, PurePosixPath(link))
            self._links.add(name)

    def _inside(self, text: str) -> PurePosixPath:
        name = PurePosixPath(text)
        if name.is_absolute() or ".." in name.parts or name.parts[:1] != (self._top,):
            raise _refused("a name leads out of the folder")
        if not self._links.isdisjoint(name.parents):
            raise _refused("a name leads through a link")
        return name

    def _check_target(self, name: PurePosixPath, target: PurePosixPath) -> None:
        """Upwards only at the start, and not above `top`: later on `..` could follow another link's way out."""
        up = 0
        while target.parts[up : up + 1] == ("..",):
            up += 1
        if target.is_absolute() or up > len(name.parts) - 2 or ".." in target.parts[up:]:
            raise _refused("a link leads out of the folder")


def _refused(why: str) -> SandboxPathError:
    return SandboxPathError(f"the sandbox's archive of the folder is refused: {why}")
