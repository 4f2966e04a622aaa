"""Code in the background of a real sandbox: it runs once, and any process can ask about it."""

import shutil
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from api.domain.sandboxes import (
    ExecuteOptions,
    ExecutionEnd,
    ExecutionJob,
    ExecutionOutput,
    SandboxPathError,
    SandboxUnsupportedError,
)
from workers.sandboxes.client import SandboxClient

from .hostile.attacks import attack_setup
from .hosting import Host, run, spec

MAX_OUTPUT = 100_000
NODE = pytest.mark.skipif(shutil.which("node") is None, reason="this machine has no node")


class Started:
    """One execution, asked by a client of its own: as a worker that has just begun."""

    def __init__(  # noqa: PLR0913 - what code can get
        self,
        host: Host,
        sandbox: str,
        code: str,
        language: str = "python",
        options: ExecuteOptions | None = None,
        timeout_s: float = 60,
        *,
        at_once: bool = True,
    ) -> None:
        self.client, self.sandbox, self.id = host.client(), sandbox, f"exec_{uuid.uuid4().hex}"
        self._arguments = (code, language, options, timeout_s)
        if at_once:
            self.start()

    def start(self) -> None:
        code, language, options, timeout_s = self._arguments
        job = ExecutionJob(code, language, timeout_s, MAX_OUTPUT, options or ExecuteOptions())
        run(self.client.start_execution(self.sandbox, self.id, job))

    def read(self, after: tuple[int, int] = (0, 0), most: int = MAX_OUTPUT, wait_s: float = 0) -> ExecutionOutput:
        return run(self.client.read_execution(self.sandbox, self.id, after=after, most=most, wait_s=wait_s))

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 30
        while text.encode() not in self.read().stdout.data:
            assert time.monotonic() < end, self.read()
            time.sleep(0.05)

    def ended(self) -> tuple[ExecutionEnd, ExecutionOutput]:
        output = self.read(wait_s=50, most=0)
        assert output.state == "ended", output
        assert output.end is not None
        return output.end, self.read()

    def stop(self) -> None:
        run(self.client.stop_execution(self.sandbox, self.id))


def shell(client: SandboxClient, sandbox: str, command: str) -> str:
    return run(client.run(sandbox, command, timeout_s=20, max_output=10_000)).stdout


class TestRun:
    @pytest.mark.parametrize(
        ("language", "code"),
        [
            ("python", "import os,sys\nprint(sys.stdin.read(), sys.argv[1:], os.environ['A'], os.getcwd())"),
            ("bash", 'echo "$(cat) $*" $A $PWD'),
            pytest.param(
                "nodejs", "console.log(require('fs').readFileSync(0, 'utf8'), process.argv[2], process.env.A)", marks=NODE
            ),
        ],
    )
    def test_it_gets_what_execute_gives(self, host: Host, sandbox: str, language: str, code: str) -> None:
        options = ExecuteOptions({"A": "b c"}, ["--x"], "in ü", "/data")
        end, output = Started(host, sandbox, code, language, options).ended()
        assert (end.exit_code, end.limit, end.stopped, output.stderr.data) == (0, None, False, b"")
        assert output.stdout.data.decode().startswith("in ü ")
        assert "--x" in output.stdout.data.decode()
        assert "b c" in output.stdout.data.decode()
        assert end.started_at is not None
        assert timedelta(0) < end.ended_at - end.started_at < timedelta(seconds=30)
        assert abs(datetime.now(UTC) - end.ended_at) < timedelta(seconds=30)

    def test_a_script_that_reads_does_not_consume_itself(self, host: Host, sandbox: str) -> None:
        _, output = Started(host, sandbox, "echo one\ncat\necho two", "bash").ended()
        assert output.stdout.data == b"one\ntwo\n"

    def test_a_failure_has_its_exit_code_and_a_traceback(self, host: Host, sandbox: str) -> None:
        end, output = Started(host, sandbox, "def f():\n    raise SystemExit(1 / 0)\nf()").ended()
        assert end.exit_code == 1
        assert b"raise SystemExit(1 / 0)" in output.stderr.data

    def test_a_signal_is_counted_as_shells_do(self, host: Host, sandbox: str) -> None:
        end, _ = Started(host, sandbox, "kill -TERM $$", "bash").ended()
        assert (end.exit_code, end.limit) == (143, None)

    def test_no_file_of_it_holds_the_code(self, client: SandboxClient, host: Host, sandbox: str) -> None:
        started = Started(
            host,
            sandbox,
            "import time\nprint('on', flush=True)\ntime.sleep(30)  # canary-4711",
            options=ExecuteOptions({"K": "canary-4712"}),
        )
        started.wait_for("on")
        assert shell(client, sandbox, "grep -rlE 'canary-471[12]' /tmp/.executions; true") == ""
        started.stop()
        assert shell(client, sandbox, "grep -rlE 'canary-471[12]' /tmp /dev/shm /home 2>/dev/null; true") == ""

    @pytest.mark.parametrize(
        ("language", "cwd", "error"), [("ruby", None, SandboxUnsupportedError), ("bash", "/none", SandboxPathError)]
    )
    def test_what_cannot_start_is_refused(
        self, host: Host, sandbox: str, language: str, cwd: str | None, error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            Started(host, sandbox, "true", language, ExecuteOptions(cwd=cwd))


class TestOnce:
    def test_a_second_start_does_not_run_it_again(self, client: SandboxClient, host: Host, sandbox: str) -> None:
        started = Started(host, sandbox, "echo run >> /data/once; sleep 1; echo done", "bash")
        started.start()
        started.ended()
        started.start()
        time.sleep(0.5)
        assert shell(client, sandbox, "cat /data/once") == "run\n"
        assert started.ended()[1].stdout.data == b"done\n"

    def test_one_that_was_stopped_before_it_began_never_runs(self, client: SandboxClient, host: Host, sandbox: str) -> None:
        started = Started(host, sandbox, "echo run >> /data/never", "bash", at_once=False)
        assert started.read().state == "absent"
        started.stop()
        started.start()
        time.sleep(0.5)
        assert shell(client, sandbox, "cat /data/never 2>/dev/null; true") == ""
        end, _ = started.ended()
        assert (end.stopped, end.started_at) == (True, None)


class TestOutput:
    def test_it_can_be_read_while_it_runs_and_from_any_position(self, host: Host, sandbox: str) -> None:
        code = "import os, time\nprint('one', flush=True)\nwhile not os.path.exists('/data/go'): time.sleep(.02)\nprint('two')"
        started = Started(host, sandbox, code)
        first = started.read(wait_s=20)
        assert (first.state, first.stdout.data, first.stdout.size) == ("running", b"one\n", 4)
        before = time.monotonic()
        assert started.read(after=(4, 0), wait_s=0.5).stdout.data == b""
        assert time.monotonic() - before >= 0.5
        shell(started.client, sandbox, "touch /data/go")
        assert started.read(after=(4, 0), wait_s=20).stdout.data == b"two\n"
        started.ended()
        assert started.read(after=(-3, 0)).stdout.data == b"wo\n"
        assert started.read(after=(2, 0), most=3).stdout.data == b"e\nt"
        assert started.read(after=(100, 0)).stdout.data == b""

    def test_bytes_arrive_as_they_are(self, host: Host, sandbox: str) -> None:
        _, output = Started(host, sandbox, r"printf '\x00\xff\xe4\n'", "bash").ended()
        assert output.stdout.data == b"\x00\xff\xe4\n"


class TestLimits:
    def test_time(self, host: Host, sandbox: str) -> None:
        end, output = Started(host, sandbox, "echo a; sleep 60", "bash", timeout_s=1).ended()
        assert (end.limit, end.exit_code, output.stdout.data) == ("timeout", None, b"a\n")

    def test_output_is_cut_at_the_limit(self, host: Host, sandbox: str) -> None:
        end, output = Started(host, sandbox, "yes", "bash").ended()
        assert (end.limit, end.exit_code, output.stdout.size) == ("output", None, MAX_OUTPUT)

    @pytest.mark.parametrize(
        ("language", "code"),
        [
            ("python", "b = []\nwhile True: b.append(bytearray(50_000_000))"),
            ("bash", "python -c 'b = []\nwhile True: b.append(bytearray(50_000_000))'"),
            pytest.param("nodejs", "const b = []; while (true) b.push(Buffer.alloc(50_000_000, 1))", marks=NODE),
        ],
    )
    def test_memory(self, host: Host, sandbox: str, language: str, code: str) -> None:
        end, _ = Started(host, sandbox, code, language).ended()
        assert (end.limit, end.exit_code) == ("memory", 137)

    def test_memory_where_no_cgroup_enforces_it(self) -> None:
        with attack_setup("ordinary") as setup:
            made = run(setup.client.create(spec(uuid.uuid4().hex)))
            code = "b = []\nwhile True: b.append(bytearray(20_000_000))"
            end, _ = Started(setup.host, made.sandbox_id, code).ended()
            assert (end.limit, end.exit_code) == ("memory", 137)
            killed, _ = Started(setup.host, made.sandbox_id, "kill -KILL $$", "bash").ended()
            assert (killed.limit, killed.exit_code) == (None, 137)


class TestStop:
    def test_every_process_of_it_ends(self, client: SandboxClient, host: Host, sandbox: str) -> None:
        code = "setsid sleep 701 & (sleep 702 &) & trap '' TERM INT\necho on\nsleep 703\nsleep 704"
        started = Started(host, sandbox, code, "bash")
        started.wait_for("on")
        started.stop()
        end, output = started.ended()
        assert (end.stopped, end.exit_code, output.stdout.data) == (True, None, b"on\n")
        assert shell(client, sandbox, "grep -lE 'sleep.70[1234]' /proc/[0-9]*/cmdline 2>/dev/null | grep -v self; true") == ""
        started.stop()

    def test_a_supervisor_that_does_not_answer_is_killed_with_the_code(
        self, client: SandboxClient, host: Host, sandbox: str
    ) -> None:
        started = Started(host, sandbox, "kill -STOP $PPID; echo on; sleep 711", "bash")
        time.sleep(1)
        started.stop()
        assert started.read().state == "ended"
        assert shell(client, sandbox, "grep -l sleep.71[1] /proc/[0-9]*/cmdline 2>/dev/null; true") == ""

    def test_code_that_kills_its_supervisor_is_lost_and_ends(self, client: SandboxClient, host: Host, sandbox: str) -> None:
        started = Started(host, sandbox, "sleep 721 & kill -KILL $PPID; sleep 722", "bash")
        end = time.monotonic() + 20
        while started.read().state == "running" and time.monotonic() < end:
            time.sleep(0.1)
        assert started.read().state == "lost"
        started.stop()
        assert started.read().state == "ended"
        assert shell(client, sandbox, "grep -lE 'sleep.72[12]' /proc/[0-9]*/cmdline 2>/dev/null; true") == ""

    def test_code_that_removes_its_folder_is_found_and_ends(self, client: SandboxClient, host: Host, sandbox: str) -> None:
        started = Started(host, sandbox, "rm -rf /tmp/.executions; touch /data/removed; sleep 731", "bash")
        end = time.monotonic() + 20
        while "removed" not in shell(client, sandbox, "ls /data") and time.monotonic() < end:
            time.sleep(0.1)
        assert started.read().state == "absent"
        started.stop()
        assert started.read().state == "ended"
        assert shell(client, sandbox, "grep -l sleep.73[1] /proc/[0-9]*/cmdline 2>/dev/null; true") == ""


def test_removed_output_is_gone(client: SandboxClient, host: Host, sandbox: str) -> None:
    started = Started(host, sandbox, "echo a", "bash")
    started.ended()
    run(client.remove_execution(sandbox, started.id))
    assert started.read().state == "absent"
    assert started.id not in shell(client, sandbox, "ls -a /tmp/.executions")
