"""`make chaos`: one training after another on one stack, each hit at random moments; a table of what became of them."""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from api.embedded.stack import EmbeddedStack
from tests.e2e.chaos.faults import FAULTS
from tests.e2e.chaos.rig import Rig, Run

_EPOCHS = 12
_SAMPLES = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.chaos")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of which fault comes when; printed, to do it again")
    parser.add_argument("--frozen", type=float, default=20.0, help="seconds that what is frozen or cut off stays so")
    parser.add_argument("--together", type=int, default=3, choices=range(1, 5), help="kills in one training")
    parser.add_argument("--within", type=float, default=None, help="begin no further training after so many seconds")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="this fault; may be given more than once")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}, {given.kills} kills, frozen for {given.frozen:g} s", flush=True)
    # Whoever ends it early ends its stack with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("cut short"))
    began, done, good = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, EmbeddedStack(Path(folder) / "home") as stack:
        rig = Rig(stack, _EPOCHS, given.frozen, _SAMPLES)
        first = rig.run((), random.Random(seed))
        print(f"undisturbed: accuracy {first.accuracy:.4f}, digest {first.digest[:12]}, {first.seconds:.1f} s", flush=True)
        print("| kill | in epoch | next round after, s | accuracy | same model | verdict |", flush=True)
        print("|---|---|---|---|---|---|", flush=True)
        for number, names in enumerate(_trainings(given, seed)):
            if given.within is not None and time.monotonic() - began > given.within:
                break
            done += len(names)
            good += len(names) if _once(rig, first, names, seed + number) else 0
        rig.terminate()
    print(f"{good} of {done} in {time.monotonic() - began:.0f} s, no sandbox left")
    return 0 if good == done else 1


def _trainings(given: argparse.Namespace, seed: int) -> list[list[str]]:
    """What happens to each training: every fault about as often as the others, in random order, at most one during which
    rounds go on."""
    names = given.only or list(FAULTS)
    chance = random.Random(seed)
    chosen = chance.sample(names * -(-given.kills // len(names)), given.kills)
    last = [name for name in chosen if FAULTS[name].rounds_go_on]
    others = [name for name in chosen if not FAULTS[name].rounds_go_on]
    found: list[list[str]] = []
    while others or last:
        ends = [last.pop()] if last else []
        room = given.together - len(ends)
        found.append(others[:room] + ends)
        del others[:room]
    chance.shuffle(found)
    return found


def _once(rig: Rig, first: Run, names: list[str], seed: int) -> bool:
    started = time.monotonic()
    try:
        run = rig.run([FAULTS[name] for name in names], random.Random(seed))
        rig.compare(run, first)
    except AssertionError as error:
        print(f"| {', '.join(names)} | | | | | FAILED after {time.monotonic() - started:.0f} s: {error} |", flush=True)
        return False
    same = "yes" if run.digest == first.digest else "no"
    for hit in run.hits:
        print(f"| {hit.fault} | {hit.at_epoch} | {hit.recovered_s:.1f} | {run.accuracy:.4f} | {same} | finished |", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
