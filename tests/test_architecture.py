"""Which room may import what; DESIGN of the listing, kept true by reading the imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ROOMS: dict[str, set[str]] = {
    "evidence": {"evidence", "cbor2"},
    "credential": {"credential", "cbor2", "jwt"},
    "attestor": {"attestor", "evidence", "credential"},
    "verifier": {"verifier", "evidence", "credential"},
    "swtpm": {"swtpm", "evidence", "cryptography", "tpm2_pytss"},
    "demo": {"demo", "swtpm", "evidence", "credential", "attestor", "verifier", "aiohttp"},
}
"""What a module of each room may import, besides the standard library."""

DRAWERS: dict[str, set[str]] = {
    "attestor/client.py": {"aiohttp"},
    "attestor/crypto.py": {"cryptography"},
    "attestor/esys.py": {"tpm2_pytss"},
    "attestor/tpm.py": {"tpm2_pytss"},
    "credential/clients/aiohttp.py": {"aiohttp"},
    "credential/clients/httpx.py": {"httpx"},
    "credential/crypto.py": {"cryptography"},
    "credential/servers/aiohttp.py": {"aiohttp"},
    "credential/servers/introspection.py": {"aiohttp"},
    "credential/servers/reports.py": {"aiohttp"},
    "credential/servers/status_lists.py": {"aiohttp"},
    "credential/servers/verifier.py": {"aiohttp"},
    "verifier/crypto": {"cryptography"},
    "verifier/database.py": {"sqlalchemy"},
    "verifier/doors": {"aiohttp", "aiohttp_sse"},
    "verifier/keys.py": {"cryptography"},  # files of private keys; crypto/ judges signatures
    "verifier/rows.py": {"sqlalchemy"},
    "verifier/store.py": {"sqlalchemy"},
}
"""The file or folder of a room that may import each of these too."""

PURE = {
    "evidence": sorted(
        str(path.relative_to(ROOT / "evidence").with_suffix(""))
        for path in (ROOT / "evidence").rglob("*.py")
    ),
    "credential": [
        "base64url", "caller", "check", "crypto", "dpop", "grant", "introspection", "jws", "keys",
        "local", "members", "nonces", "presentation", "reasons", "requirements", "seen", "status",
        "use", "wit", "wpt",
    ],
    "verifier": [
        "appraisal", "attestation_key", "boot", "boot_command_lines", "boot_events",
        "boot_judgement", "boot_log", "boot_policy", "boot_policy_maker", "bounds", "canary",
        "check_log", "check_quote", "command_line", "confinement", "core_record",
        "crypto/activation", "crypto/certified_keys", "crypto/file_keys", "crypto/flaw",
        "crypto/p256", "crypto/tpm_keys", "endorsement", "enrolment", "event_log", "explanation",
        "file_signature", "host", "inquiry", "instance", "kernel_policy", "launch", "layout",
        "levels", "look", "mapped_files", "modules", "node", "origin", "places", "plain",
        "policy/boot", "policy/files", "policy/fit", "policy/kernel", "policy/whole",
        "policy/workload", "posture", "process", "process_key", "purpose", "quote", "quote_files",
        "quote_key", "quote_list", "quote_message", "quote_values", "quoted_registers", "reasons",
        "records", "reference", "replay", "selection", "sound_log", "tables", "tolerance",
        "verdict", "verity", "whereabouts", "window", "workload",
    ],
}  # fmt: skip
"""Modules that touch nothing: same arguments, same answer."""

TOUCHING = {
    "asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess",
    "tempfile", "threading", "time", "urllib.request",
}  # fmt: skip

SERVICE = {
    "boot_tools", "case", "case_tools", "certificates", "check_ek", "client", "commands", "config",
    "conversation", "database", "doors", "endings", "file_commands", "file_tools", "grants",
    "hints", "init", "inventory", "keys", "ledger", "mint", "operations", "operator_commands",
    "reference_maker", "relying_parties", "rows", "server_commands", "service", "store", "sweeper",
}  # fmt: skip
"""Modules and packages of the verifier's service part; its pure part may not import any of it."""


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def dotted(path: Path) -> str:
    """Return the name that a module is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and what is in it, without what only type checkers read."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from at_run_time(child)


def imported(path: Path, among: set[str]) -> set[str]:
    """Return which of these modules a module imports: of `from a import b`, a.b if it is one."""
    names: set[str] = set()
    for node in at_run_time(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names.update(one if one in among else node.module for one in full)
    return names & among - {dotted(path)}


def lengths(room: str) -> list[int]:
    """Return how many lines each function has, the shortest first."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for path in modules(room) for node in ast.walk(ast.parse(path.read_text()))]
    found = [node for node in nodes if isinstance(node, kinds)]
    return sorted((one.end_lineno or one.lineno) - one.lineno + 1 for one in found)


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_imports_itself_by_way_of_others(room: str) -> None:
    paths = {dotted(path): path for path in modules(room)}
    graph = {name: imported(path, {*paths}) for name, path in paths.items()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("room", ROOMS)
def test_functions_are_short(room: str) -> None:
    """Half of a room's have at most 10 lines, nine of ten at most 25."""
    found = lengths(room)
    assert found[len(found) // 2] <= 10
    assert found[len(found) * 9 // 10] <= 25


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_the_design_allows(room: str) -> None:
    assert modules(room), f"{room}: no module"
    for path in modules(room):
        place = path.relative_to(ROOT)
        drawers = [DRAWERS.get(str(one), set()) for one in (place, *place.parents)]
        found = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        others = found.difference(ROOMS[room], *drawers)
        assert not others, f"{place} imports {sorted(others)}"


@pytest.mark.parametrize("room", PURE)
def test_pure_modules_touch_nothing(room: str) -> None:
    paths = [ROOT / room / f"{stem}.py" for stem in PURE[room]]
    for path in paths:
        if not path.exists():
            pytest.fail(f"{path.relative_to(ROOT)} is listed as pure and does not exist")
        found = imports(path) & TOUCHING
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"
        assert "datetime.now" not in path.read_text(), path
        assert "open(" not in path.read_text(), path


def test_the_deciding_part_knows_nothing_of_the_service() -> None:
    for stem in PURE["verifier"]:
        path = ROOT / "verifier" / f"{stem}.py"
        parts = {tuple(name.split(".")[:2]) for name in imports(path)}
        found = parts & {("verifier", name) for name in SERVICE}
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"


def test_every_module_of_the_verifier_is_of_one_part_or_the_other() -> None:
    named = {*PURE["verifier"], *SERVICE, "__main__"}
    found = {
        place.parts[0] if place.parts[0] in SERVICE else str(place)
        for path in modules("verifier")
        for place in [path.relative_to(ROOT / "verifier").with_suffix("")]
        if place.name != "__init__"
    }
    assert found == named


def test_lists_in_text_are_read_by_the_file_tool_alone() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in modules(room)
        if "evidence.ima_ascii" in imports(path)
    }
    assert readers == {"verifier/check_log.py"}


def test_a_fixture_that_is_asked_for_in_a_body_exists() -> None:
    """`tests/asked_fixtures.py` sees the names that stand in signatures and markers."""
    nodes = [node for path in modules("tests") for node in ast.walk(ast.parse(path.read_text()))]
    fixtures = {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and any("pytest.fixture" in ast.unparse(one) for one in node.decorator_list)
    }
    asked = {
        ast.unparse(node.args[0])
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "getfixturevalue"
    }
    assert asked <= {repr(name) for name in fixtures}


def test_ima_policies_hold_data_only() -> None:
    assert not list((ROOT / "ima_policies").rglob("*.py"))


@pytest.mark.parametrize("names", ["credential", "attestor.__main__, attestor.run"])
def test_whoever_obtains_or_launches_maps_no_cryptography(names: str) -> None:
    """All that a process maps is hashed and judged; `attestor run` is looked at, too."""
    heavy = "{'cryptography', 'jwt', 'cbor2', 'aiohttp', 'tpm2_pytss'}"
    program = f"import sys, {names}; print(sorted({heavy} & {{*sys.modules}}))"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"
