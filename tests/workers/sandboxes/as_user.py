"""`python as_user.py UID PROGRAM ARGUMENT…`: run a program as an ordinary user, for tests of root.

Python or this checkout may lie in a folder that only root may read. Then the program gets a mount
namespace of its own. There, that folder holds these two and nothing else.
"""

import ctypes
import os
import sys
from pathlib import Path

_NEWNS = 0x00020000
_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    user, *command = sys.argv[1:]
    needed = [Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[3]]
    closed = {above for path in needed for above in path.parents if not above.stat().st_mode & 0o001}
    _check(_libc.unshare(_NEWNS), "unshare")
    _mount("none", "/", None, _REC | _PRIVATE)
    for folder in sorted(closed):
        _show_only(folder, [path for path in needed if path.is_relative_to(folder)])
    number = int(user)
    os.setgroups([])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)
    os.execv(command[0], command)


def _show_only(folder: Path, shown: list[Path]) -> None:
    descriptors = [(path, os.open(path, os.O_PATH)) for path in shown if path.is_dir()]
    _mount("tmpfs", str(folder), "tmpfs", 0, "mode=755,size=1m")
    for path, descriptor in descriptors:
        path.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", str(path), None, _BIND | _REC)
        os.close(descriptor)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    arguments = [text.encode() if text is not None else None for text in (source, target, kind)]
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None), f"mount on {target}")


def _check(result: int, operation: str) -> None:
    if result:
        sys.exit(f"{operation}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
