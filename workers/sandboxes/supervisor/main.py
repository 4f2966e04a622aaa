"""The command line: `run`, `read STDOUT_AFTER STDERR_AFTER MOST WAIT_S` or `stop`."""

import sys
from pathlib import Path

from .folder import Folder
from .read import read
from .run import run
from .stop import stop


def main() -> None:
    # The archive lies in the folder of the execution.
    folder = Folder(Path(sys.argv[0]).resolve().parent)
    match sys.argv[1:]:
        case ["run"]:
            run(folder)
        case ["read", stdout_after, stderr_after, most, wait_s]:
            print(read(folder, (int(stdout_after), int(stderr_after)), int(most), float(wait_s)))
        case ["stop"]:
            stop(folder)
        case _:
            sys.exit(__doc__)
