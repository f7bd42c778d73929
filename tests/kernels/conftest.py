"""What `make kernels` adds to pytest: the choice of kernels, and a table at the end."""

from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from tests.kernels.choice import choose

COLUMNS = ("kernel", "suite", "template", "seconds", "templates", "verdict")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the test its kernels and templates."""
    if "chosen" in metafunc.fixturenames:
        config = metafunc.config
        chosen = choose(config.getoption("--kernel"), config.getoption("--ima-template"))
        parameters = [one.parameter() for one in chosen]
        metafunc.parametrize("kernel,chosen", parameters, indirect=["kernel"], scope="module")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what came of each kernel."""
    rows = [
        dict(report.user_properties, outcome=outcome)
        for outcome in ("passed", "skipped", "failed", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, ())
        if report.when == "call" and dict(report.user_properties).get("kernel")
    ]
    if not rows:
        return
    terminalreporter.section("kernels")
    for row in rows:
        terminalreporter.write_line(line(row))
    failed = sorted({row["kernel"] for row in rows if row["outcome"] == "xfailed"})
    if failed:
        terminalreporter.write_line(f"not released, and failed: {', '.join(failed)}")


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    is_told = row["outcome"] in ("passed", "skipped", "xpassed")
    verdict = row.get("verdict", "") if is_told else "FAILED"
    seconds = f"{row['seconds']} s" if "seconds" in row else "no boot"
    counts = row.get("templates")
    told = ", ".join(f"{count} {name}" for name, count in counts.items()) if counts else ""
    return (
        f"{row['kernel']:<18} {row['suite']:<18} {row['template']:<16} {seconds:>8}  "
        f"{told:<28} {verdict}"
    )
