"""A folder's tar may have only members and links that stay in the folder.

The size of the chunks makes no difference.
"""

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.sandboxes import SandboxPathError
from workers.sandboxes.tar_check import checked_tar


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def packed(*members: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(b"x" * info.size) if info.size else None)
    return out.getvalue()


def passed(data: bytes, top: str = "folder", piece: int = 10_000) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), piece):
            yield data[start : start + piece]

    async def collect() -> bytes:
        return b"".join([chunk async for chunk in checked_tar(pieces(), top)])

    return asyncio.run(collect())


GOOD = packed(
    member("folder", tarfile.DIRTYPE),
    member("folder/file", size=1000),
    member("folder/" + "long" * 100, size=513),
    member("folder/sub", tarfile.DIRTYPE),
    member("folder/sub/up", tarfile.SYMTYPE, "../file"),
    member("folder/beside", tarfile.SYMTYPE, "sub/up"),
    member("folder/hard", tarfile.LNKTYPE, "folder/file"),
    member("folder/pipe", tarfile.FIFOTYPE),
)


@given(st.integers(1, 2000))
def test_a_folders_tar_passes_unchanged_in_any_pieces(piece: int) -> None:
    assert passed(GOOD, piece=piece) == GOOD


BAD = {
    "parent": [member("folder/../../etc/passwd", size=1)],
    "absolute": [member("/etc/passwd", size=1)],
    "another_folder": [member("elsewhere/file", size=1)],
    "long_name_out": [member("folder/" + "a/" * 200 + "../" * 300 + "x", size=1)],
    "absolute_link": [member("folder/link", tarfile.SYMTYPE, "/etc")],
    "link_up": [member("folder/link", tarfile.SYMTYPE, "../../etc")],
    "link_up_to_the_folder_above": [member("folder/link", tarfile.SYMTYPE, "..")],
    "link_up_by_another": [
        member("folder/sub", tarfile.DIRTYPE),
        member("folder/sub/top", tarfile.SYMTYPE, ".."),
        member("folder/out", tarfile.SYMTYPE, "sub/top/../etc"),
    ],
    "through_a_link": [member("folder/link", tarfile.SYMTYPE, "sub"), member("folder/link/file", size=1)],
    "hard_link_out": [member("folder/link", tarfile.LNKTYPE, "/etc/shadow")],
    "hard_link_up": [member("folder/link", tarfile.LNKTYPE, "folder/../../etc/shadow")],
    "device": [member("folder/device", tarfile.CHRTYPE)],
    "block_device": [member("folder/device", tarfile.BLKTYPE)],
}


@pytest.mark.parametrize("kind", BAD)
def test_a_tar_that_leads_out_of_its_folder_is_refused(kind: str) -> None:
    with pytest.raises(SandboxPathError, match="refused"):
        passed(packed(member("folder", tarfile.DIRTYPE), *BAD[kind]))


def test_nothing_is_hidden_from_the_check() -> None:
    second = packed(member("/etc/passwd", size=1))
    overriding = packed(member("folder/" + "é" * 200, size=1), form=tarfile.PAX_FORMAT)
    for data in (GOOD + second, overriding, b"no tar at all" * 100, GOOD[:700], GOOD[:512], b""):
        with pytest.raises(SandboxPathError, match="refused"):
            passed(data)
