"""`make chaos`: run trainings on one stack, and kill parts at random moments.

The results are printed as a table.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from api.embedded.stack import EmbeddedStack
from tests.e2e.chaos.chaos_cluster import ChaosCluster, TrainingResult
from tests.e2e.chaos.faults import FAULTS

_EPOCHS = 12
_SAMPLES = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.chaos")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="seed of the order and moments of the faults; it is printed")
    parser.add_argument("--frozen", type=float, default=20.0, help="seconds that a part stays frozen or cut off")
    parser.add_argument("--together", type=int, default=3, choices=range(1, 5), help="kills in one training")
    parser.add_argument("--within", type=float, default=None, help="begin no further training after this many seconds")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="this fault; may be given more than once")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}, {options.kills} kills, frozen for {options.frozen:g} s", flush=True)
    # SIGTERM must also end the stack.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("cut short"))
    began, kills, survived = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, EmbeddedStack(Path(folder) / "home") as stack:
        cluster = ChaosCluster(stack, _EPOCHS, options.frozen, _SAMPLES)
        undisturbed = cluster.run((), random.Random(seed))
        print(
            f"undisturbed: accuracy {undisturbed.accuracy:.4f}, digest {undisturbed.digest[:12]}, {undisturbed.seconds:.1f} s",
            flush=True,
        )
        print("| kill | in epoch | next round after, s | accuracy | same model | verdict |", flush=True)
        print("|---|---|---|---|---|---|", flush=True)
        for number, names in enumerate(_choose_faults(options, seed)):
            if options.within is not None and time.monotonic() - began > options.within:
                break
            kills += len(names)
            survived += len(names) if _train_once(cluster, undisturbed, names, seed + number) else 0
        cluster.terminate()
    print(f"{survived} of {kills} in {time.monotonic() - began:.0f} s, no sandbox left")
    return 0 if survived == kills else 1


def _choose_faults(options: argparse.Namespace, seed: int) -> list[list[str]]:
    """Return the names of the faults for each training, in random order.

    Each fault is about as frequent as the others. A training has at most one fault during which
    rounds continue.
    """
    names = options.only or list(FAULTS)
    random_ = random.Random(seed)
    chosen = random_.sample(names * -(-options.kills // len(names)), options.kills)
    last = [name for name in chosen if FAULTS[name].rounds_go_on]
    others = [name for name in chosen if not FAULTS[name].rounds_go_on]
    trainings: list[list[str]] = []
    while others or last:
        ends = [last.pop()] if last else []
        places = options.together - len(ends)
        trainings.append(others[:places] + ends)
        del others[:places]
    random_.shuffle(trainings)
    return trainings


def _train_once(cluster: ChaosCluster, undisturbed: TrainingResult, names: list[str], seed: int) -> bool:
    started = time.monotonic()
    try:
        result = cluster.run([FAULTS[name] for name in names], random.Random(seed))
        cluster.compare(result, undisturbed)
    except AssertionError as error:
        print(f"| {', '.join(names)} | | | | | FAILED after {time.monotonic() - started:.0f} s: {error} |", flush=True)
        return False
    same = "yes" if result.digest == undisturbed.digest else "no"
    for fault in result.fault_results:
        columns = (fault.fault, fault.at_epoch, f"{fault.recovered_s:.1f}", f"{result.accuracy:.4f}", same, "finished")
        print("|", " | ".join(map(str, columns)), "|", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
