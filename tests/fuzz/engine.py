"""One target in one process, under atheris: `python -m tests.fuzz.engine TARGET FLAG...`.

`tests.fuzz` starts it; the flags are libFuzzer's.
"""

import sys

import atheris

with atheris.instrument_imports(include=["evidence", "verifier", "credential", "tests", "tomllib"]):
    from tests.fuzz.canary import CANARY
    from tests.fuzz.mutator import mutate_cbor
    from tests.fuzz.targets import TARGETS


def main(argv: list[str]) -> None:
    """Run the target until the time is over, or something is found; never returns."""
    program, name, *flags = argv
    target = (TARGETS | CANARY)[name]

    def mutate(data: bytes, most_bytes: int, seed: int) -> bytes:
        return mutate_cbor(data, most_bytes, seed, atheris.Mutate)

    def attempt(data: bytes) -> None:
        target.attempt(data)

    options = {"custom_mutator": mutate} if target.is_cbor else {}
    atheris.Setup([program, f"-max_len={target.most_bytes}", *flags], attempt, **options)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
