"""Every fixture that a test asks for exists: said when tests are collected, not when they are run.

A test in a virtual machine is run long after the others, and `make check` runs next to none; both
collect all of them, whichever they then choose. Those that are asked for through
`request.getfixturevalue` are seen by `tests/test_architecture.py`.
"""

import pytest


@pytest.hookimpl(tryfirst=True)  # before any are deselected
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Raise UsageError with the tests and the fixtures that there are not."""
    manager = session.config.pluginmanager.get_plugin("funcmanage")
    assert manager is not None
    unmet = [
        f"{one.nodeid} asks for {name}, which is no fixture"
        for one in items
        if isinstance(one, pytest.Function)
        for name in one.fixturenames
        if not (name in _given(one) or manager.getfixturedefs(name, one))
    ]
    if unmet:
        raise pytest.UsageError(*unmet)


def _given(function: pytest.Function) -> set[str]:
    """Return the names that no fixture has to be there for."""
    call = getattr(function, "callspec", None)
    return {"request", *(call.params if call else ())}
