"""Files on their way in and out: no link, name or archive of the sandbox's making leads anywhere but into the sandbox."""

import uuid
from collections.abc import AsyncIterator

import pytest

from api.domain.sandboxes import SandboxError, SandboxFileNotFoundError, SandboxPathError
from tests.workers.sandboxes.hosting import run, stream

from .attacks import Ground


def read(field: Ground, sandbox: str, path: str) -> bytes:
    async def collect() -> bytes:
        download = await field.client.download(sandbox, path)
        return b"".join([chunk async for chunk in download.chunks])

    return run(collect())


def test_symbolic_links_lead_nowhere_else(wall: Ground) -> None:
    home = wall.host.home
    wall.attack(f"ln -s / /data/all; ln -s {home} /data/home; ln -s /etc /data/etc; ln -s .. /data/up", "bash")
    for path in (
        f"/data/all{home}/lock",
        "/data/home/lock",
        "/data/etc/shadow",
        "/data/up/etc/shadow",
        "/data/all/proc/2/environ",
    ):
        with pytest.raises((SandboxFileNotFoundError, SandboxPathError)):
            read(wall, wall.attacker, path)
    for path in ("/data/etc/injected", "/data/all/usr/injected", "/data/up/injected"):
        with pytest.raises(SandboxError):
            run(wall.client.upload(wall.attacker, path, stream(b"x")))
    assert b"root:" not in read(wall, wall.attacker, "/data/etc/passwd"), "the sandbox's own small /etc"


def test_an_upload_onto_a_link_replaces_the_link(wall: Ground) -> None:
    wall.attack("ln -sf /home/user/target /data/link; ln -sf /usr/bin/env /data/system", "bash")
    for path in ("/data/link", "/data/system"):
        run(wall.client.upload(wall.attacker, path, stream(b"new")))
        assert read(wall, wall.attacker, path) == b"new"
    assert wall.attack("ls /home/user/target; head -c 4 /usr/bin/env | od -c", "bash").find("new") == -1


def test_a_link_that_changes_while_it_is_written_and_read_leads_nowhere_else(wall: Ground) -> None:
    """A race between the check of a path and its use has nothing to win: both happen inside."""
    swap = (
        "import os, time\n"
        "end = time.time() + 3\n"
        "while time.time() < end:\n"
        "    for target in ('/data/real', '/etc', '/usr/lib'):\n"
        "        os.symlink(target, '/data/next')\n"
        "        os.rename('/data/next', '/data/swapped')\n"
    )
    run(wall.client.upload(wall.attacker, "/data/swap.py", stream(swap.encode())))
    wall.attack("mkdir -p /data/real", "bash")
    run(wall.client.start(wall.attacker, "python /data/swap.py"))
    for number in range(20):
        try:
            run(wall.client.upload(wall.attacker, f"/data/swapped/file{number}", stream(b"x")))
        except SandboxError:
            continue
    assert wall.attack("ls /etc /usr/lib | grep -c '^file[0-9]'; true", "bash") == "0\n"


def test_a_hard_link_cannot_be_made_to_the_systems_files(wall: Ground) -> None:
    code = """
import os, sys
for path in ("/etc/passwd", "/usr/bin/env", os.path.realpath(sys.executable), "/proc/1/environ"):
    try:
        os.link(path, "/data/hard")
        print("linked", path)
    except OSError:
        pass
"""
    assert wall.attack(code) == ""


def test_a_neighbours_folder_cannot_be_named(wall: Ground) -> None:
    mark = uuid.uuid4().hex.encode()
    run(wall.client.upload(wall.neighbour, "/data/mine.txt", stream(mark)))
    for path in (
        f"/data/../../{wall.neighbour}/root/data/mine.txt",
        f"/proc/1/root/../{wall.neighbour}/root/data/mine.txt",
        f"{wall.host.home}/sandboxes/{wall.neighbour}/root/data/mine.txt",
    ):
        with pytest.raises((SandboxPathError, SandboxFileNotFoundError)):
            read(wall, wall.attacker, path)


async def _kept(chunks: AsyncIterator[bytes]) -> tuple[bytes, str]:
    """What arrived before the refusal, and the refusal."""
    arrived = b""
    try:
        async for chunk in chunks:
            arrived += chunk
    except SandboxPathError as error:
        return arrived, str(error)
    return arrived, ""


FORGED = """
tar() {
    command python - "$3" "$4" <<'END'
import io, sys, tarfile
with tarfile.open(OUT, "w") as archive:
    info = tarfile.TarInfo(NAME)
    info.size = 4
    archive.addfile(info, io.BytesIO(b"evil"))
END
}
"""


@pytest.mark.parametrize("name", ["../../etc/cron.d/evil", "/etc/cron.d/evil", "folder/../../evil", "other/evil"])
def test_an_archive_that_the_sandbox_forged_is_refused(wall: Ground, name: str) -> None:
    """The attacker puts a `tar` of its own before the system's, in the profile that every command reads."""
    forged = FORGED.replace("NAME", repr(name)).replace("OUT", "[word for word in sys.argv if word.endswith('.tar')][0]")
    run(wall.client.upload(wall.attacker, "/data/folder/file", stream(b"good")))
    run(wall.client.upload(wall.attacker, "/home/user/.bash_profile", stream(forged.encode())))

    async def fetch() -> tuple[bytes, str]:
        return await _kept((await wall.client.download(wall.attacker, "/data/folder")).chunks)

    arrived, refusal = run(fetch())
    wall.attack("rm /home/user/.bash_profile", "bash")
    assert "refused" in refusal
    assert arrived == b""


def test_a_folder_with_links_out_of_it_is_refused_and_one_with_links_inside_is_not(wall: Ground) -> None:
    wall.attack(
        "mkdir -p /data/set/sub; echo 1 > /data/set/one; ln -sf ../one /data/set/sub/in; ln -f /data/set/one /data/set/two",
        "bash",
    )
    assert b"set/sub/in" in read(wall, wall.attacker, "/data/set")
    wall.attack("ln -sf /etc/passwd /data/set/out", "bash")
    with pytest.raises(SandboxPathError, match="a link leads out of the folder"):
        read(wall, wall.attacker, "/data/set")


def test_what_is_no_file_is_not_read(wall: Ground) -> None:
    """A pipe that nobody writes to, and a device that never ends, hold no download up."""
    wall.attack("mkfifo /data/pipe; true", "bash")
    for path in ("/data/pipe", "/dev/zero", "/dev/stdin"):
        with pytest.raises(SandboxError):
            read(wall, wall.attacker, path)
    assert wall.everyone_answers()
