"""Code that is run from a file in the sandbox.

One shell command writes the file and becomes the program. It reads the code from its standard
input, because a command line is short. The program's standard input follows the code there. The
same command works at every host of E2B's protocol.
"""

import re
import secrets
import shlex
from dataclasses import dataclass
from urllib.parse import quote

from api.domain.sandboxes import ExecuteOptions, SandboxUnsupportedError

MEMORY_ANSWER = "memory"
_PROGRAMS = {"python": "python", "nodejs": "node", "javascript": "node", "bash": "bash"}
_SUFFIXES = {"python": "py", "bash": "sh"}
_NO_ROOM = "the sandbox has no room for the code"
# Node reads code as an ES module if it has one of these words. `import(…)` is allowed in both.
_MODULE_WORDS = re.compile(r"\b(?:await|export|import(?!\s*\())\b")
# A module gets the names that only a CommonJS file has, so that `require` always works.
_COMMONJS_NAMES = """
import { createRequire } from "node:module";
const names = { require: createRequire(process.cwd() + "/"), module: { exports: {} } };
names.require.main = names.module;
Object.assign(globalThis, names, { exports: names.module.exports, __filename: process.argv[1], __dirname: process.cwd() });
"""
# A file in memory does not count against the disk limit. So code can free a full disk.
# Without isolation, /dev/shm is the machine's own.
_CHOOSE_FOLDER = """
t=/dev/shm
if [ -n "${{SANDBOX_ROOT-}}" ] || ! [ -w $t ]; then t=${{TMPDIR:-/tmp}}; fi
f=$t/{name}
"""
# Node looks for modules beside the file, so the file lies in the working folder if possible.
_PREFER_WORKING_FOLDER = "if [ -w . ]; then f=$PWD/{name}; fi\n"
_COUNT_KILLS = "grep '^oom_kill ' /proc/vmstat"


@dataclass(frozen=True, slots=True)
class Script:
    """A shell command and its standard input.

    `cleanup` is a second command. It removes the file that the first command wrote.
    """

    command: str
    stdin: str
    cleanup: str


def program_of(language: str) -> str:
    """Return the name of the program that runs the language.

    Raises:
        SandboxUnsupportedError: no program runs it.
    """
    program = _PROGRAMS.get(language)
    if program is None:
        raise SandboxUnsupportedError(f"code in '{language[:50]}' cannot be executed; supported: {', '.join(_PROGRAMS)}")
    return program


def make_script(code: str, language: str, options: ExecuteOptions, *, counts_kills: bool) -> Script:
    """Return the command that writes the code to a file and runs it from there.

    With `counts_kills`, its `cleanup` prints `MEMORY_ANSWER` if the kernel killed a process for
    memory meanwhile. This suits only a sandbox with a kernel of its own, such as E2B's.
    """
    program = program_of(language)
    is_module = program == "node" and _MODULE_WORDS.search(code) is not None
    suffix = _SUFFIXES.get(language) or ("mjs" if is_module else "cjs")
    name = f".execute-{secrets.token_hex(8)}.{suffix}"
    prelude = _CHOOSE_FOLDER.format(name=name)
    if program == "node":
        prelude += _PREFER_WORKING_FOLDER.format(name=name)
    if counts_kills:
        prelude += f"{_COUNT_KILLS} > $t/{name}.kills 2>/dev/null\n"
    size = len(code.encode())
    prelude += f'(umask 077; head -c {size} > "$f") || {{ echo {shlex.quote(_NO_ROOM)} >&2; exit 125; }}\n'
    prelude += f"exec {_program_line(program, options, is_module=is_module)}\n"
    return Script(
        command=f'eval "$(head -c {len(prelude.encode())})"',
        stdin=prelude + code + (options.stdin or ""),
        cleanup=_cleanup(name, options.cwd, counts_kills=counts_kills),
    )


def _program_line(program: str, options: ExecuteOptions, *, is_module: bool) -> str:
    """Return the words of the `env` command that becomes the program."""
    env = dict(options.env)
    words = ["env"]
    if program == "python":
        # Modules in the working folder are found, as by `python` without a file.
        path = env.pop("PYTHONPATH", None)
        rest = '"${PYTHONPATH:+:$PYTHONPATH}"' if path is None else shlex.quote(f":{path}")
        words.append(f'PYTHONPATH="$PWD"{rest}')
    words += [shlex.quote(f"{name}={value}") for name, value in env.items()]
    words.append(f'"$(command -v {program})"')
    if is_module:
        words.append(f"--import 'data:text/javascript,{quote(_COMMONJS_NAMES)}'")
    words += ['"$f"', *map(shlex.quote, options.args)]
    if options.stdin is None:
        words.append("</dev/null")
    return " ".join(words)


def _cleanup(name: str, cwd: str | None, *, counts_kills: bool) -> str:
    folder = '"$HOME"' if cwd is None else '"${SANDBOX_ROOT-}"' + shlex.quote(cwd)
    command = f"cd /; rm -f -- {folder}/{name}; "
    command += 'for t in /dev/shm "${TMPDIR:-/tmp}"; do '
    if counts_kills:
        kills = f'"$t"/{name}.kills'
        command += f'[ -s {kills} ] && [ "$({_COUNT_KILLS})" != "$(cat {kills})" ] && echo {MEMORY_ANSWER}; rm -f -- {kills}; '
    return command + f'rm -f -- "$t"/{name}; done'
