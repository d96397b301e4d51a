"""Does random faults to a small real run, again and again, and looks whether it ends with the same bits as undisturbed.

    python -m dnn_research.tools.soak --faults 200 [--seed 0] [--workdir runs/soak] [--minutes 30]

Every attempt is a process of `dnn_research.main`: it is killed, interrupted, its newest checkpoint is damaged, its disk
fills up or becomes read-only (where mounts are allowed), its directory is moved away, a second process is started
beside it. Then it goes on, until it is finished; its whole state and its metrics.jsonl are compared bit for bit with
those of the undisturbed run, and the next begins. Which fault is done, when and where follows from the seed and its
number. ledger.jsonl in the work directory has a line for each; the same command goes on with it. Exit status 0: all
held; 1: something did not, and the table says what.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dnn_research.arguments import Parser, answer
from dnn_research.errors import UserError, check_seed

# LeNet-5 on the digits that ship in a package: the smallest network of all.
CONFIG = "configs/lenet.py:laptop"
STEPS = 120
OVERRIDES = (
    f"config.train.num_steps={STEPS}",
    "config.checkpoint.every_steps=10",
    "config.eval.every_steps=60",
    "config.record.every_steps=5",
    "config.record.histograms=False",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = Parser(
        prog="python -m dnn_research.tools.soak",
        description=(__doc__ or "").splitlines()[0],
        allow_abbrev=False,
    )
    parser.add_argument("--faults", type=int, help="stop after so many faults")
    parser.add_argument("--minutes", type=float, help="begin no other fault after so many minutes")
    parser.add_argument("--seed", type=int, default=0, help="decides which faults, when and where (default: 0)")
    parser.add_argument(
        "--workdir", type=Path, default=Path("runs/soak"), help="of runs and ledger (default: runs/soak)"
    )
    parser.add_argument("--config", default=CONFIG, help=f"another recipe (default: {CONFIG})")
    known = parser.parse_args(arguments)
    return answer(lambda: _run(known), debug=known.debug, interrupted="interrupted; the same command goes on")


def _run(known: argparse.Namespace) -> int:
    if known.faults is None and known.minutes is None:
        raise UserError("how long? --faults 200, or --minutes 60, or both")
    for name in ("faults", "minutes"):
        if getattr(known, name) is not None and getattr(known, name) <= 0:
            raise UserError(f"--{name} is {getattr(known, name)}: give more than 0")
    check_seed(known.seed, "--seed")
    from dnn_research import recipe
    from dnn_research.tools.enduring.endurance import Endurance
    from dnn_research.tools.enduring.runs import leave_none_behind

    leave_none_behind()
    recipe.load(known.config, OVERRIDES)  # what is wrong with it is said before anything runs
    until = time.monotonic() + 60 * known.minutes if known.minutes is not None else None
    endurance = Endurance(known.workdir, known.config, OVERRIDES, STEPS, known.seed)
    while (known.faults is None or endurance.ledger.count < known.faults) and (
        until is None or time.monotonic() < until
    ):
        print(endurance.next_fault(), flush=True)
    print(endurance.finish(), flush=True)
    print(endurance.ledger.table(), flush=True)
    return 0 if endurance.ledger.held else 1


if __name__ == "__main__":
    sys.exit(main())
