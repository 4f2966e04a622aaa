"""Upload and download of hostile files.

No link, name or archive from a sandbox leads out of the sandbox.
"""

import uuid
from collections.abc import AsyncIterator

import pytest

from api.domain.sandboxes import SandboxError, SandboxFileNotFoundError, SandboxPathError
from tests.workers.sandboxes.hosting import run, stream

from .attacks import AttackSetup


def read(limit_attack: AttackSetup, sandbox: str, path: str) -> bytes:
    async def collect() -> bytes:
        download = await limit_attack.client.download(sandbox, path)
        return b"".join([chunk async for chunk in download.chunks])

    return run(collect())


def test_symbolic_links_lead_nowhere_else(limit_attack: AttackSetup) -> None:
    home = limit_attack.host.home
    limit_attack.output_of(f"ln -s / /data/all; ln -s {home} /data/home; ln -s /etc /data/etc; ln -s .. /data/up", "bash")
    for path in (
        f"/data/all{home}/lock",
        "/data/home/lock",
        "/data/etc/shadow",
        "/data/up/etc/shadow",
        "/data/all/proc/2/environ",
    ):
        with pytest.raises((SandboxFileNotFoundError, SandboxPathError)):
            read(limit_attack, limit_attack.attacker, path)
    for path in ("/data/etc/injected", "/data/all/usr/injected", "/data/up/injected"):
        with pytest.raises(SandboxError):
            run(limit_attack.client.upload(limit_attack.attacker, path, stream(b"x")))
    assert b"root:" not in read(limit_attack, limit_attack.attacker, "/data/etc/passwd"), "the sandbox's own small /etc"


def test_an_upload_onto_a_link_replaces_the_link(limit_attack: AttackSetup) -> None:
    limit_attack.output_of("ln -sf /home/user/target /data/link; ln -sf /usr/bin/env /data/system", "bash")
    for path in ("/data/link", "/data/system"):
        run(limit_attack.client.upload(limit_attack.attacker, path, stream(b"new")))
        assert read(limit_attack, limit_attack.attacker, path) == b"new"
    assert limit_attack.output_of("ls /home/user/target; head -c 4 /usr/bin/env | od -c", "bash").find("new") == -1


def test_a_link_that_changes_while_it_is_written_and_read_leads_nowhere_else(limit_attack: AttackSetup) -> None:
    """A race between the check of a path and its use gains nothing: both happen inside."""
    swap = (
        "import os, time\n"
        "end = time.time() + 3\n"
        "while time.time() < end:\n"
        "    for target in ('/data/real', '/etc', '/usr/lib'):\n"
        "        os.symlink(target, '/data/next')\n"
        "        os.rename('/data/next', '/data/swapped')\n"
    )
    run(limit_attack.client.upload(limit_attack.attacker, "/data/swap.py", stream(swap.encode())))
    limit_attack.output_of("mkdir -p /data/real", "bash")
    run(limit_attack.client.start(limit_attack.attacker, "python /data/swap.py"))
    for number in range(20):
        try:
            run(limit_attack.client.upload(limit_attack.attacker, f"/data/swapped/file{number}", stream(b"x")))
        except SandboxError:
            continue
    assert limit_attack.output_of("ls /etc /usr/lib | grep -c '^file[0-9]'; true", "bash") == "0\n"


def test_a_hard_link_cannot_be_made_to_the_systems_files(limit_attack: AttackSetup) -> None:
    code = """
import os, sys
for path in ("/etc/passwd", "/usr/bin/env", os.path.realpath(sys.executable), "/proc/1/environ"):
    try:
        os.link(path, "/data/hard")
        print("linked", path)
    except OSError:
        pass
"""
    assert limit_attack.output_of(code) == ""


def test_a_neighbours_folder_cannot_be_named(limit_attack: AttackSetup) -> None:
    mark = uuid.uuid4().hex.encode()
    run(limit_attack.client.upload(limit_attack.neighbour, "/data/mine.txt", stream(mark)))
    for path in (
        f"/data/../../{limit_attack.neighbour}/root/data/mine.txt",
        f"/proc/1/root/../{limit_attack.neighbour}/root/data/mine.txt",
        f"{limit_attack.host.home}/sandboxes/{limit_attack.neighbour}/root/data/mine.txt",
    ):
        with pytest.raises((SandboxPathError, SandboxFileNotFoundError)):
            read(limit_attack, limit_attack.attacker, path)


async def _read_until_refused(chunks: AsyncIterator[bytes]) -> tuple[bytes, str]:
    """Return the bytes that arrived before the refusal, and the refusal's message."""
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
def test_an_archive_that_the_sandbox_forged_is_refused(limit_attack: AttackSetup, name: str) -> None:
    """The attacker defines its own `tar` in the profile that every command reads."""
    forged = FORGED.replace("NAME", repr(name)).replace("OUT", "[word for word in sys.argv if word.endswith('.tar')][0]")
    run(limit_attack.client.upload(limit_attack.attacker, "/data/folder/file", stream(b"good")))
    run(limit_attack.client.upload(limit_attack.attacker, "/home/user/.bash_profile", stream(forged.encode())))

    async def fetch() -> tuple[bytes, str]:
        return await _read_until_refused((await limit_attack.client.download(limit_attack.attacker, "/data/folder")).chunks)

    arrived, refusal = run(fetch())
    limit_attack.output_of("rm /home/user/.bash_profile", "bash")
    assert "refused" in refusal
    assert arrived == b""


def test_a_folder_with_links_out_of_it_is_refused_and_one_with_links_inside_is_not(limit_attack: AttackSetup) -> None:
    limit_attack.output_of(
        "mkdir -p /data/set/sub; echo 1 > /data/set/one; ln -sf ../one /data/set/sub/in; ln -f /data/set/one /data/set/two",
        "bash",
    )
    assert b"set/sub/in" in read(limit_attack, limit_attack.attacker, "/data/set")
    limit_attack.output_of("ln -sf /etc/passwd /data/set/out", "bash")
    with pytest.raises(SandboxPathError, match="a link leads out of the folder"):
        read(limit_attack, limit_attack.attacker, "/data/set")


def test_what_is_no_file_is_not_read(limit_attack: AttackSetup) -> None:
    """A pipe without a writer and a device without an end do not block a download."""
    limit_attack.output_of("mkfifo /data/pipe; true", "bash")
    for path in ("/data/pipe", "/dev/zero", "/dev/stdin"):
        with pytest.raises(SandboxError):
            read(limit_attack, limit_attack.attacker, path)
    assert limit_attack.everyone_answers()
