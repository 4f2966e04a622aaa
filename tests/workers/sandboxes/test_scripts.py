"""The commands that run code, by this machine's own shell: so they run at any host of the
protocol.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from api.domain.sandboxes import ExecuteOptions, SandboxUnsupportedError
from workers.sandboxes.scripts import MEMORY_ANSWER, make_script

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="this machine has no bash")


def shell(command: str, folder: Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)}
    return subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("counts_kills", [True, False])
def test_code_runs_and_its_files_are_removed(tmp_path: Path, counts_kills: bool) -> None:
    script = make_script('echo "$0 $1 $(cat)"', "bash", ExecuteOptions(args=["a"], stdin="in"), counts_kills=counts_kills)
    done = shell(script.command, tmp_path, script.stdin)
    file, *words = done.stdout.split()
    assert (words, done.stderr, done.returncode) == (["a", "in"], "", 0)
    written = [Path(file), *([Path(f"{file}.kills")] if counts_kills else [])]
    assert all(path.exists() for path in written)
    assert shell(script.cleanup, tmp_path).stdout == "", "the kernel killed nothing for memory meanwhile"
    assert not any(path.exists() for path in written)


def test_a_kill_for_memory_is_noticed_by_the_kernels_count(tmp_path: Path) -> None:
    script = make_script('echo "$0"', "bash", ExecuteOptions(), counts_kills=True)
    file = shell(script.command, tmp_path, script.stdin).stdout.strip()
    Path(f"{file}.kills").write_text("oom_kill -1\n")
    assert shell(script.cleanup, tmp_path).stdout == f"{MEMORY_ANSWER}\n"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(SandboxUnsupportedError, match="cobol"):
        make_script("x", "cobol", ExecuteOptions(), counts_kills=False)
