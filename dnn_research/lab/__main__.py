"""Runs an experiment, goes on with it, and reports.

    python -m dnn_research.lab --experiment experiments/lrn_vgg.py[:laptop] --workdir D
        [--dry_run | --report] [--rows A,B] [--minutes N] [--cluster local|slurm --jobs N] [--publish]
    python -m dnn_research.lab --ledger

The plan and its estimated time come first. The same command goes on where the last one stopped, and repeats nothing
that came to its end. Exit status: 0 done, 1 bad input or runs that failed, 75 saved after SIGTERM, 130 interrupted.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from dnn_research import process
from dnn_research.arguments import Parser, answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    parser = Parser(prog="python -m dnn_research.lab", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--experiment", metavar="FILE[:laptop]", help="such as experiments/lrn_vgg.py:laptop")
    parser.add_argument("--workdir", type=Path, help="where its runs and its report are; runs/lab/<experiment>")
    parser.add_argument("--dry_run", action="store_true", help="only show the plan and its estimated time")
    parser.add_argument("--report", action="store_true", help="only write the report of what has run")
    parser.add_argument("--rows", default="", metavar="A,B", help="only these rows; the report has all")
    parser.add_argument("--minutes", type=float, help="begin no further run after so many minutes")
    parser.add_argument("--cluster", choices=("local", "slurm"), help="every run is a job of its own, by submitit")
    parser.add_argument("--jobs", type=int, default=1, help="with --cluster: at most so many at a time")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="with --cluster: of submitit's executor"
    )
    parser.add_argument("--run", metavar="ROW/seed_N", help="only this run, no report: what a job does")
    parser.add_argument(
        "--publish", action="store_true", help="copy the report to experiments/results, write the ledger"
    )
    parser.add_argument("--ledger", action="store_true", help="only write experiments/LEDGER.md")
    known = parser.parse_args(arguments)
    process.show_plain_lines()

    def run() -> int:
        process.use_compilation_cache()
        # Here, not above: it imports jax, which a mistyped flag should not wait for.
        from dnn_research.lab import command

        return command.run(known)

    interrupted = "interrupted; the same command goes on from the last checkpoint"
    return answer(run, debug=known.debug, interrupted=interrupted)


if __name__ == "__main__":
    process.prepare()
    sys.exit(main())
