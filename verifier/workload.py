"""Workloads as TOML.

A document holds one; the keys of a later version are unknown here, and refused:

>>> read_workload(EXAMPLE).minimum
'L2'
"""

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network

from credential import wit
from evidence.process import MOST_CONFIGURATION, PROOF_KEYS
from verifier.policy import LEVELS, Container, Interpreted, Launch, Use, Workload
from verifier.posture import DEMANDS
from verifier.reference import NAME, PATH
from verifier.tables import DURATION, Table, read_duration
from verifier.window import FORM as WINDOW
from verifier.window import Window

EXAMPLE = """\
version = 1
id = "spiffe://example.org/payments"
executable = { set = "payments-1.4", file = "bin/payments" }
mapped = ["debian-12", "payments-1.4"]     # where its libraries may come from
user = "payments"
unit = "payments.service"                   # or any_starter = true, container, launch, parent
minimum = "L2"
lifetime = "10m"                            # this and all down to [[use]] may be left out
lease = "5m"
posture = ["secure-boot", "lockdown"]       # how the node's kernel has to be set
nodes = { zone = "eu-1" }                   # labels that its node must have
network = ["10.1.0.0/16", "fd00:1::/64"]    # where its node's connections must come from
context = ["session"]                       # what a process has to say, and nothing else
on_misuse = "revoke"                        # a relying party reports; without it nothing happens
proof_key = "attestor"                      # who signs its requests; or "tpm", or "process"

[[use]]
audience = "https://ledger.example.org"
scopes = ["read", "post"]
window = "Mon-Fri 06:00-20:00 UTC"          # in any zone; without it, always

[[use]]
audience = "https://ledger.example.org"
scopes = ["close-year"]
grant = "approval"                          # by an operator, each time, for a while
"""

SPIFFE_ID = re.compile(r"spiffe://[a-z0-9][a-z0-9._-]{0,254}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)+")
"""SPIFFE-ID, section 2: a trust domain and at least one path segment, none of them `.` or `..`."""

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}[a-z0-9_$-]?")
"""useradd(8), of Debian."""
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}")
"""systemd.unit(5): the characters of a unit's name."""
_CGROUP = re.compile(r"(/(?!\.{1,2}(/|\Z))[A-Za-z0-9:_.@-]{1,255}){1,16}(/\*)?")
"""At least one name that is meant; only all of the last component may be any."""
_ARGUMENT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,4096}")
"""What the attestor's local protocol lets through."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
OURS = {"PROCSEAL_FD", "PROCSEAL_JOB_FD"}
"""Variables that a launched program has from its attestor alone, or not at all."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_PLACE = re.compile(
    r"(/(?!\.{1,2}(/|\Z))[^/\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,255}){1,32}"
)
"""An absolute path without `.` and `..`."""
_LEVEL = re.compile("|".join(LEVELS))
_AUDIENCE = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,1024}")
"""RFC 3986: an absolute URI with an authority or path."""
_DEMAND = re.compile("|".join(DEMANDS))
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")
"""RFC 6749, section 3.3."""
_ON_MISUSE = re.compile("revoke")
_PROOF_KEY = re.compile("|".join(PROOF_KEYS))
_GRANT = re.compile("approval")
_LABEL, _LABEL_VALUE = re.compile(wit.LABEL), re.compile(wit.LABEL_VALUE)
_NETWORK = re.compile(r"[0-9a-f.:]{2,43}/[0-9]{1,3}")
MOST_USES = 64
MOST_NETWORKS = 64

DEFAULT_LIFETIME = "10m"
DEFAULT_LEASE = timedelta(minutes=5)
MOST_LIFETIME = timedelta(hours=1)
"""A credential is minutes long: it is renewed, not kept."""


def read_workload(text: str) -> Workload:
    """Return the workload in the TOML document; raise Rejected if it is anything else."""
    table = Table.parse(text, "workload")
    id_ = table.text("id", SPIFFE_ID)
    table.what = f"workload {id_}"
    executable = table.table("executable")
    lifetime, lease = _read_times(table)
    unit, any_starter, container, launch, parent = _read_starter(table)
    workload = Workload(
        id=id_,
        executable_set=executable.text("set", NAME),
        executable_file=executable.text("file", PATH),
        mapped=table.texts("mapped", NAME),
        user=table.text("user", _USER),
        unit=unit,
        any_starter=any_starter,
        container=container,
        needs_canary=table.flag("canary", default=True),
        interpreter=_read_interpreter(table),
        launch=launch,
        parent=parent,
        minimum=table.text("minimum", _LEVEL),
        uses=_read_uses(table),
        lifetime=lifetime,
        lease=lease,
        posture=table.texts("posture", _DEMAND),
        revokes_misused=bool(table.text("on_misuse", _ON_MISUSE, default="")),
        proof_key=table.text("proof_key", _PROOF_KEY, default="attestor"),
        context=_read_context(table),
        nodes=_read_nodes(table),
        network=_read_network(table),
    )
    executable.end()
    table.end()
    return workload


def _read_starter(table: Table) -> tuple[str, bool, Container | None, Launch | None, str]:
    """Return what tells who may start it: its unit, nothing, its container, or its attestor.

    The attestor is told with what, or by whom, or both.
    """
    unit, any_starter = table.text("unit", _UNIT, default=""), table.flag("any_starter")
    container = _read_container(table) if table.value("container") is not None else None
    launch = _read_launch(table) if table.value("launch") is not None else None
    parent = table.text("parent", SPIFFE_ID, default="")
    is_launched = launch is not None or bool(parent)
    if (bool(unit), any_starter, container is not None, is_launched).count(True) != 1:
        expected = "one of unit, any_starter = true, container, and launch or parent or both"
        raise table.refuse("unit", expected=expected)
    return unit, any_starter, container, launch, parent


def _read_launch(table: Table) -> Launch:
    launch = table.table("launch")
    # Not `texts`: an argument may be there twice.
    arguments = launch.value("argv")
    if not isinstance(arguments, list) or not all(map(_is_argument, arguments)) or not arguments:
        raise launch.refuse("argv", expected="an array of texts, at least one")
    if not _PLACE.fullmatch(arguments[0]):
        raise launch.refuse("argv", expected="the program's absolute path first")
    environment = launch.table("env")
    if not all(_NAME.fullmatch(name) for name in environment.values):
        raise launch.refuse("env", expected=f"names of the form {_NAME.pattern}")
    variables = {name: environment.text(name, _ARGUMENT) for name in environment.values}
    if OURS & variables.keys():
        raise launch.refuse("env", expected=f"none of {', '.join(sorted(OURS))}, which are ours")
    files = {}
    for file in launch.tables("files"):
        path = file.text("path", _PLACE)
        if path in files:
            raise launch.refuse("files", expected="no path twice")
        files[path] = bytes.fromhex(file.text("digest", _DIGEST).removeprefix("sha256:"))
        file.end()
    if len(files) > MOST_CONFIGURATION:
        raise launch.refuse("files", expected=f"at most {MOST_CONFIGURATION}")
    launch.end()
    return Launch(arguments=tuple(arguments), environment=variables, files=files)


def _is_argument(value: object) -> bool:
    return isinstance(value, str) and _ARGUMENT.fullmatch(value) is not None


def _read_container(table: Table) -> Container:
    container = table.table("container")
    found = Container(image=container.text("set", NAME), cgroup=container.text("cgroup", _CGROUP))
    container.end()
    return found


def _read_interpreter(table: Table) -> Interpreted | None:
    if table.value("interpreter") is None:
        return None
    one = table.table("interpreter")
    found = Interpreted(script=one.text("script", PATH), modules=one.text("modules", NAME))
    one.end()
    return found


def _read_times(table: Table) -> tuple[timedelta, timedelta]:
    lifetime = read_duration(table.text("lifetime", DURATION, default=DEFAULT_LIFETIME))
    if lifetime > MOST_LIFETIME:
        raise table.refuse("lifetime", expected="at most 1h")
    text = table.text("lease", DURATION, default="")
    lease = read_duration(text) if text else min(DEFAULT_LEASE, lifetime)
    if lease > lifetime:
        raise table.refuse("lease", expected="no longer than the lifetime")
    return lifetime, lease


def _read_uses(table: Table) -> tuple[Use, ...]:
    """Return what it is for: an audience may be there again, for other scopes or other times."""
    uses = tuple(map(_read_use, table.tables("use")))
    if not 0 < len(uses) <= MOST_USES or len(set(uses)) != len(uses):
        raise table.refuse("use", expected=f"different uses, 1 to {MOST_USES}")
    return uses


def _read_use(table: Table) -> Use:
    window = table.text("window", WINDOW, default="")
    use = Use(
        audience=table.text("audience", _AUDIENCE),
        scopes=table.texts("scopes", _SCOPE),
        window=Window.parse(window) if window else None,
        needs_approval=bool(table.text("grant", _GRANT, default="")),
    )
    table.end()
    return use


def _read_context(table: Table) -> tuple[str, ...]:
    names = table.texts("context", _LABEL)
    if len(names) > wit.MOST_CONTEXT:
        raise table.refuse("context", expected=f"at most {wit.MOST_CONTEXT}")
    return names


def _read_nodes(table: Table) -> dict[str, str]:
    """Return the labels of its nodes; to name none is not the same as to say nothing."""
    if table.value("nodes") is None:
        return {}
    nodes = table.table("nodes")
    if not nodes.values or not all(map(_LABEL.fullmatch, nodes.values)):
        raise table.refuse("nodes", expected=f"labels of the form {wit.LABEL}, at least one")
    return {name: nodes.text(name, _LABEL_VALUE) for name in nodes.values}


def _read_network(table: Table) -> tuple[IPv4Network | IPv6Network, ...]:
    if table.value("network") is None:
        return ()
    texts = table.texts("network", _NETWORK)
    if not 0 < len(texts) <= MOST_NETWORKS:
        raise table.refuse("network", expected=f"1 to {MOST_NETWORKS} networks")
    try:
        return tuple(map(ip_network, texts))
    except ValueError as error:
        expected = "ADDRESS/LENGTH, with no bit of the address set beyond that length"
        raise table.refuse("network", expected=expected) from error
