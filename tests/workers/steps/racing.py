"""One of several worker processes: `python -m tests.workers.steps.racing DATABASE_URL FOLDER`.

It reads cluster ids from stdin, one on each line, and runs their steps in four threads.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from sqlalchemy import create_engine

from api.store.database import Database
from tests.workers.steps.context import make_context
from workers.steps import clusters, limits


def main() -> None:
    url, folder = sys.argv[1:]
    context = make_context(Database(create_engine(url, pool_size=5), lambda _step, _row_id: None), Path(folder))
    print("ready", flush=True)
    ids = sys.stdin.read().split()
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: limits.enforce(context), range(4)):
            pass
        for _ in pool.map(partial(clusters.advance, context), ids * 4):
            pass


if __name__ == "__main__":
    main()
