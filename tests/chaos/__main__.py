"""`python -m tests.chaos --seeds N [--seed S]`: run seeds and say what they found."""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import TYPE_CHECKING

from tests.chaos.runner import Runner

if TYPE_CHECKING:
    from tests.chaos.runner import Report


def main() -> int:
    """Run; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (%(default)s)")
    parser.add_argument("--planted", default="", help="name of a bug to plant")
    parser.add_argument("--calm", action="store_true", help="readings and hand-overs only, no faults")
    parser.add_argument(
        "--reruns",
        type=int,
        default=0,
        help="how often a broken seed is run again before it counts; each is shown (%(default)s)",
    )
    parser.add_argument("--fail-fast", action="store_true", help="end at the first broken promise")
    options = parser.parse_args()
    seconds: list[float] = []
    broken: list[int] = []
    with Runner() as runner:
        for seed in range(options.seed, options.seed + options.seeds):
            for _ in range(1 + options.reruns):
                report = runner.run(seed, planted=options.planted, faults=not options.calm)
                seconds.append(report.seconds)
                _show(seed, report)
                if not report.violations:
                    break
            else:
                broken.append(seed)
            if broken and options.fail_fast:
                break
    sys.stdout.write(
        f"{len(seconds)} runs, {statistics.fmean(seconds):.1f} s each; broken: {broken or 'none'}\n"
    )
    return 1 if broken else 0


def _show(seed: int, report: Report) -> None:
    names = ", ".join(violation.promise for violation in report.violations)
    writes, offers = len(report.history.writes), len(report.history.offers)
    state = f"BROKEN: {names}" if names else "ok"
    sys.stdout.write(f"seed {seed}: {report.seconds:.1f} s, {offers} readings, {writes} writes: {state}\n")
    if report.violations:
        sys.stdout.write(f"{report.text()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
