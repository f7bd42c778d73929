"""`make bench`: what it costs to refuse next to accepting, and to read next to hashing.

And to look at a process again next to hashing its files, and to watch 200 of them next to a core.
Every figure stands next to a baseline of the same run; seconds are CPU seconds.
"""

import argparse
import os
import sys

from benchmarks import reading, refusing
from benchmarks.looking import show_looking
from benchmarks.timing import Figure, measure
from benchmarks.watching import show_watching

MARGIN = 1.10
"""A refusal may take this much of an acceptance: what is above 1 is noise."""
SIZES = (1_000,)
FULL_SIZES = (*SIZES, 10_000, 100_000)
TOPICS = ("refusing", "reading", "looking", "watching")
ROOTS = {"looking", "watching"}
"""They look at processes of other users."""


def main(argv: list[str] | None = None) -> int:
    """Run the benchmarks; return 1 if something is dearer than it may be."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=", ".join(TOPICS))
    parser.add_argument(
        "--full",
        action="store_true",
        help="lists of 10000 and 100000 records too, which takes an hour",
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    topics = arguments.topics or TOPICS
    if unknown := set(topics) - set(TOPICS):
        parser.error(f"no topic {', '.join(sorted(unknown))}")
    if os.geteuid() != 0 and ROOTS.intersection(topics):
        parser.error("looking and watching need root; without: make bench ARGS='refusing reading'")
    sizes = FULL_SIZES if arguments.full else SIZES
    dear = 0
    if "refusing" in topics:
        dear = show_refusing(sizes, arguments.rounds)
    if "reading" in topics:
        show_reading(sizes, arguments.rounds)
    if "looking" in topics:
        dear += show_looking(arguments.rounds)
    if "watching" in topics:
        dear += show_watching()
    return 1 if dear else 0


def show_refusing(sizes: tuple[int, ...], rounds: int) -> int:
    """Print every ratio, the worst of each group last; return how many are too high."""
    dear = 0
    worst = []
    for group in refusing.groups(sizes):
        seconds, figures = _measure_twice(group, rounds)
        print(f"\n{group.name}: accepted in {1000 * seconds:.2f} ms; refused, next to that:")
        for figure in figures:
            print(f"  {figure.ratio:5.2f}  {1000 * figure.seconds:9.2f} ms  {figure.name}")
        sys.stdout.flush()
        dear += sum(figure.ratio > MARGIN for figure in figures)
        worst.append((figures[-1].ratio, group.name, figures[-1].name))
    print("\nthe dearest refusal of each kind, next to accepting:")
    for ratio, kind, name in sorted(worst):
        print(f"  {ratio:5.2f}  {kind}: {name}")
    told = f"{dear} refusals take more than {MARGIN:.2f} of accepting"
    print(told if dear else f"no refusal takes more than {MARGIN:.2f} of accepting")
    return dear


def _measure_twice(group: refusing.Group, rounds: int) -> tuple[float, list[Figure]]:
    """Return the figures in order; what seems too dear is measured again, and longer."""
    works = refusing.checked(group)
    seconds, figures = measure(group.accept, works, rounds=rounds)
    dear = {figure.name: works[figure.name] for figure in figures if figure.ratio > MARGIN}
    _, again = measure(group.accept, dear, rounds=3 * rounds) if dear else (seconds, [])
    figures = [figure for figure in figures if figure.name not in dear] + again
    return seconds, sorted(figures, key=lambda figure: figure.ratio)


def show_reading(sizes: tuple[int, ...], rounds: int) -> None:
    """Print entries per second of each way to read a list, next to hashing its bytes once."""
    print("\nreading lists, next to SHA-256 over their bytes:")
    for size in sizes:
        work = reading.Work.of(size)
        seconds, figures = measure(work.baseline, work.ways, rounds=rounds)
        print(f"  {size} records, {work.size_bytes} bytes, hashed in {1000 * seconds:.2f} ms")
        for figure in figures:
            rate = size / figure.seconds
            print(f"  {figure.ratio:7.0f} times  {rate:9.0f} records/s  {figure.name}")


if __name__ == "__main__":
    sys.exit(main())
