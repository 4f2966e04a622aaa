"""Code runs from a file in a real sandbox, with its own standard input, arguments and variables."""

import json
import shutil

import pytest

from api.domain.sandboxes import CommandResult, ExecuteOptions, SandboxPathError
from workers.sandboxes.client import SandboxClient

from .hosting import Host, run, stream

NODE = pytest.mark.skipif(shutil.which("node") is None, reason="this machine has no node")


def execute(
    client: SandboxClient, sandbox: str, code: str, language: str = "python", options: ExecuteOptions | None = None
) -> CommandResult:
    return run(client.execute(sandbox, code, language=language, timeout_s=60, max_output=100_000, options=options))


def output(
    client: SandboxClient, sandbox: str, code: str, language: str = "python", options: ExecuteOptions | None = None
) -> str:
    """Return the standard output of code that must succeed."""
    result = execute(client, sandbox, code, language, options)
    assert (result.exit_code, result.stderr, result.limit) == (0, "", None)
    return result.stdout


class TestStandardInput:
    @pytest.mark.parametrize("reader", ["cat >/dev/null", "read line; true", "head -c 1", "python -c 'input()' 2>/dev/null"])
    def test_a_bash_command_that_reads_does_not_consume_the_script(
        self, client: SandboxClient, sandbox: str, reader: str
    ) -> None:
        assert output(client, sandbox, f"echo one\n{reader}\necho two\n", "bash") == "one\ntwo\n"

    @pytest.mark.parametrize(
        ("language", "code"),
        [
            ("python", "import sys\nprint(repr(sys.stdin.read()))"),
            pytest.param("nodejs", "console.log(`'${require('fs').readFileSync(0, 'utf8')}'`)", marks=NODE),
            ("bash", "echo \"'$(cat)'\""),
        ],
    )
    def test_it_is_empty_or_the_given_text(self, client: SandboxClient, sandbox: str, language: str, code: str) -> None:
        assert output(client, sandbox, code, language) == "''\n"
        assert output(client, sandbox, code, language, ExecuteOptions(stdin="é 1")) == "'é 1'\n"

    def test_a_large_one_arrives_whole(self, client: SandboxClient, sandbox: str) -> None:
        text = "é" * 900_000
        assert (
            output(client, sandbox, "import sys\nprint(len(sys.stdin.read()))", options=ExecuteOptions(stdin=text))
            == "900000\n"
        )

    def test_code_that_ignores_it_ends(self, client: SandboxClient, sandbox: str) -> None:
        assert output(client, sandbox, "print(1)", options=ExecuteOptions(stdin="x" * 900_000)) == "1\n"


class TestFile:
    def test_a_traceback_shows_source_lines(self, client: SandboxClient, sandbox: str) -> None:
        result = execute(client, sandbox, "def divide(x):\n    return 1 / x\n\ndivide(0)\n")
        assert result.exit_code == 1
        assert "line 2, in divide\n    return 1 / x\n" in result.stderr
        assert "line 4, in <module>\n    divide(0)\n" in result.stderr

    @pytest.mark.parametrize(
        ("language", "code"),
        [
            ("python", "import sys\nprint(sys.argv[0])"),
            pytest.param("nodejs", "console.log(__filename)", marks=NODE),
            ("bash", 'echo "$0"'),
        ],
    )
    def test_it_is_removed(self, client: SandboxClient, sandbox: str, language: str, code: str) -> None:
        file = output(client, sandbox, code, language).strip()
        assert file.startswith("/")
        left = "ls -A /dev/shm ~ /tmp | grep execute- | wc -l"
        assert run(client.run(sandbox, left, timeout_s=20, max_output=100)).stdout.strip() == "0"

    def test_it_is_removed_after_a_limit(self, client: SandboxClient, sandbox: str) -> None:
        code = "import time\ntime.sleep(60)"
        assert run(client.execute(sandbox, code, language="python", timeout_s=1, max_output=100)).limit == "timeout"
        left = "ls -A /dev/shm ~ /tmp | grep execute- | wc -l"
        assert run(client.run(sandbox, left, timeout_s=20, max_output=100)).stdout.strip() == "0"

    def test_modules_beside_it_are_found(self, client: SandboxClient, sandbox: str) -> None:
        run(client.upload(sandbox, "/data/tools/helper.py", stream(b"VALUE = 42")))
        code = "import helper\nprint(helper.VALUE)"
        assert output(client, sandbox, code, options=ExecuteOptions(cwd="/data/tools")) == "42\n"
        with_path = ExecuteOptions(cwd="/data/tools", env={"PYTHONPATH": "/data"})
        assert output(client, sandbox, code, options=with_path) == "42\n"

    def test_processes_of_multiprocessing_start(self, client: SandboxClient, sandbox: str) -> None:
        code = """
import multiprocessing
def square(x): return x * x
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(square, [3]))
"""
        assert output(client, sandbox, code) == "[9]\n"


@NODE
class TestNode:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("const fs = require('fs');\nconsole.log(fs.readdirSync('/').length > 0);\n", "true\n"),
            ("import { basename } from 'node:path'; console.log(basename('/a/b'), await Promise.resolve(2));", "b 2\n"),
            ("import path from 'path'; const fs = require('fs'); console.log(path.basename('/a'), typeof fs);", "a object\n"),
            ("import { createRequire } from 'module';\nconst require = createRequire(import.meta.url);\nconsole.log(1)", "1\n"),
            ("async function main() { await 1; console.log(2); }\nif (require.main === module) main();", "2\n"),
            ("x = 010; console.log(x)", "8\n"),
            ("const os = await import('os'); console.log(typeof os.cpus)", "function\n"),
            ("await (async () => console.log(3))()", "3\n"),
            ("module.exports = 1; console.log(process.argv.length)", "2\n"),
            ("#!/usr/bin/env node\nconsole.log(await 4)", "4\n"),
        ],
    )
    def test_require_and_import_work(self, client: SandboxClient, sandbox: str, code: str, expected: str) -> None:
        assert output(client, sandbox, code, "nodejs") == expected

    @pytest.mark.parametrize(
        "code", ["console.log(require('./twice')(4))", "import twice from './twice.js'; console.log(twice(4))"]
    )
    def test_modules_beside_it_are_found(self, client: SandboxClient, sandbox: str, code: str) -> None:
        run(client.upload(sandbox, "/data/node/twice.js", stream(b"module.exports = (x) => 2 * x;")))
        assert output(client, sandbox, code, "nodejs", ExecuteOptions(cwd="/data/node")) == "8\n"


class TestOptions:
    def test_arguments_and_variables_arrive_as_they_are(self, client: SandboxClient, sandbox: str) -> None:
        texts = ["", "a b", "'\"$HOME`id`\\", "line\nline", "é", "--flag", "*"]
        env = {f"V{number}": text for number, text in enumerate(texts)} | {"t": "1", "f": "2", "UID": "3"}
        code = "import os, sys, json\nprint(json.dumps([sys.argv[1:], {n: os.environ[n] for n in sys.stdin.read().split()}]))"
        shown = output(client, sandbox, code, options=ExecuteOptions(env=env, args=texts, stdin=" ".join(env)))
        assert shown == json.dumps([texts, env]) + "\n"
        assert output(client, sandbox, 'printf "%s|" "$@"', "bash", ExecuteOptions(args=texts)) == "|".join(texts) + "|"

    def test_large_ones_arrive(self, client: SandboxClient, sandbox: str) -> None:
        options = ExecuteOptions(env={"LARGE": "'" * 90_000}, args=["'" * 90_000])
        assert (
            output(client, sandbox, "import os, sys\nprint(len(os.environ['LARGE']), len(sys.argv[1]))", options=options)
            == "90000 90000\n"
        )

    def test_a_path_of_its_own_does_not_hide_the_interpreter(self, client: SandboxClient, sandbox: str) -> None:
        assert (
            output(client, sandbox, "import os\nprint(os.environ['PATH'])", options=ExecuteOptions(env={"PATH": "/none"}))
            == "/none\n"
        )

    def test_the_working_folder_is_the_given_one(self, client: SandboxClient, sandbox: str) -> None:
        run(client.upload(sandbox, "/data/a folder/x.txt", stream(b"x")))
        code = "import os\nprint(os.listdir())"
        assert output(client, sandbox, code, options=ExecuteOptions(cwd="/data/a folder")) == "['x.txt']\n"

    @pytest.mark.parametrize("cwd", ["/data/nothing", "/data/a file"])
    def test_a_working_folder_that_is_none_is_refused(self, client: SandboxClient, sandbox: str, cwd: str) -> None:
        run(client.upload(sandbox, "/data/a file", stream(b"x")))
        with pytest.raises(SandboxPathError, match="cwd"):
            execute(client, sandbox, "print(1)", options=ExecuteOptions(cwd=cwd))


class TestMemory:
    CODE = "blocks = []\nwhile True: blocks.append(bytearray(b'x' * (16 << 20)))"

    def test_a_kill_for_memory_is_named(self, host: Host, client: SandboxClient, sandbox: str) -> None:
        if host.health["isolation"] == "none":
            pytest.skip("nothing limits the memory without isolation")
        result = execute(client, sandbox, self.CODE)
        assert (result.limit, result.exit_code) == ("memory", 137)
        in_a_child = execute(client, sandbox, f'python -c "{self.CODE}"\nexit $?', "bash")
        assert (in_a_child.limit, in_a_child.exit_code) == ("memory", 137)

    def test_another_kill_is_not(self, client: SandboxClient, sandbox: str) -> None:
        result = execute(client, sandbox, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
        assert (result.limit, result.exit_code) == (None, 137)
