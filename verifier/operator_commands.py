"""Commands that ask a running verifier, over the operators' socket."""

import base64
from pathlib import Path
from typing import Any

from evidence import Malformed
from verifier import client
from verifier.commands import YES, Arguments, Commands, Run, say, tell
from verifier.config import Config
from verifier.policy import LEVELS
from verifier.tables import read_duration


def add_status(commands: Commands) -> None:
    """Add status."""
    commands.add("status", _status, "what there is, in numbers")


def add_nodes(nodes: Commands) -> None:
    """Add what can be done with nodes."""
    nodes.add("list", _node_list, "list the nodes")
    approve = nodes.add("approve", _node_approve, "approve the EK of a pending node")
    approve.add_argument("node")
    approve.add_argument("--ek", metavar="HASH", help="only if its EK has this hash")
    remove = _node_verb("node_remove", "node", "status")
    forget = _node_verb("node_forget", "node")
    nodes.add("remove", remove, "remove a node; its name stays its TPM's").add_argument("node")
    nodes.add("forget", forget, "free the name and TPM of a removed node").add_argument("node")
    instance = nodes.add(
        "approve-instance", _node_approve_instance, "approve a later start of its attestor"
    )
    instance.add_argument("node")
    instance.add_argument("instance", help="SHA-256 of its instance key, hexadecimal")
    label = nodes.add("label", _node_label, "change what a node is called besides its name")
    label.add_argument("node")
    label.add_argument(
        "labels", metavar="NAME=VALUE", nargs="+", help="without a VALUE for one that goes"
    )
    label.add_argument("--reason", default="", help="words for the ledger")


def add_grants(grants: Commands) -> None:
    """Add what can be done with what processes ask for."""
    grants.add("list", _grant_list, "list what waits for approval, and what is open")
    approve = grants.add("approve", _grant_approve, "let processes do what was asked for")
    approve.add_argument("grant", metavar="ID")
    approve.add_argument(
        "--for", dest="seconds", type=_seconds, required=True, metavar="TIME",
        help="for how long, as 90s, 15m or 2h",
    )  # fmt: skip
    close = grants.add("close", _grant_close, "end what is open, or refuse what waits")
    close.add_argument("grant", metavar="ID")
    for one in (approve, close):
        one.add_argument("--reason", default="", help="words for the ledger")


def add_policy(commands: Commands) -> dict[str, Commands]:
    """Add what can be done with each kind of document; return the commands of each."""
    kinds = {
        "workload": "who may have which identity",
        "reference": "digests and signers that are accepted",
        "kernel-policy": "IMA policies that are accepted",
        "boot-policy": "how machines may boot",
    }
    groups = {kind: commands.group(kind, help_) for kind, help_ in kinds.items()}
    for kind, group in groups.items():
        put = group.add("put", _put(kind), f"store a {kind}, in the place of the last of its name")
        put.add_argument("file", type=Path, nargs="+")
        group.add("list", _documents(kind), f"list each {kind}")
        group.add("show", _show(kind), f"print a {kind}").add_argument("name")
        group.add("remove", _remove(kind), f"withdraw a {kind}").add_argument("name")
    return groups


def add_records(commands: Commands) -> None:
    """Add what can be done with credentials, relying parties and the ledger."""
    credentials = commands.group("credential", "what has been issued")
    listing = credentials.add("list", _credential_list, "list the tokens that have not expired")
    listing.add_argument("--all", action="store_true", help="every one that was ever issued")
    revoke = credentials.add("revoke", _credential_revoke, "end the credential of a token")
    revoke.add_argument("jti")
    parties = commands.group("relying-party", "who may ask what became of a token")
    add = parties.add("add", _relying_party_add, "register one and print its secret, once")
    add.add_argument("name")
    add.add_argument("audience", help="the one whose tokens it may ask about")
    add.add_argument(
        "--minimum", choices=LEVELS, default=LEVELS[0], help="tell it of no token below this level"
    )
    add.add_argument("--may-revoke", action="store_true", help="and end")
    parties.add("list", _relying_party_list, "list them")
    remove = parties.add("remove", _relying_party_remove, "answer one no longer")
    remove.add_argument("name")
    ledger = commands.group("ledger", "every decision, issue and revocation")
    tail = ledger.add("tail", _ledger_tail, "print the last rows")
    tail.add_argument("-n", "--lines", type=int, default=20)
    uses = ledger.add("uses", _ledger_uses, "print the last uses that relying parties reported")
    uses.add_argument("-n", "--lines", type=int, default=20)
    uses.add_argument("--of", default="", metavar="ID", help="of this SPIFFE ID alone")
    kept = ledger.add("evidence", _ledger_evidence, "write what a decision was made from")
    kept.add_argument("seq", type=int)
    kept.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")


def _ask(arguments: Arguments, verb: str, **given: object) -> Any:  # noqa: ANN401 - JSON
    path = arguments.socket or Config.load(arguments.config).socket
    return client.call(path, verb, **given)


def _status(arguments: Arguments) -> int:
    answer = _ask(arguments, "status")
    if arguments.json or arguments.quiet:
        return tell(arguments, answer)
    for name, value in answer.items():
        print(f"{name:<15} {value}")
    return YES


def _node_list(arguments: Arguments) -> int:
    rows = _ask(arguments, "node_list")
    return tell(arguments, rows, "node", "status", "ek_hash", "accepted")


def _node_verb(verb: str, *columns: str) -> Run:
    def run(arguments: Arguments) -> int:
        return tell(arguments, _ask(arguments, verb, node=arguments.node), *columns)

    return run


def _node_approve(arguments: Arguments) -> int:
    answer = _ask(arguments, "node_approve", node=arguments.node, ek_hash=arguments.ek or "")
    return tell(arguments, answer, "node", "status")


def _node_approve_instance(arguments: Arguments) -> int:
    given = {"node": arguments.node, "instance": arguments.instance}
    return tell(arguments, _ask(arguments, "node_approve_instance", **given), "node", "status")


def _node_label(arguments: Arguments) -> int:
    given = {"node": arguments.node, "labels": arguments.labels, "reason": arguments.reason}
    return tell(arguments, _ask(arguments, "node_label", **given), "node", "labels", "revoked")


_GRANT = (
    "grant", "state", "until", "workload", "node", "pid", "audience", "scopes", "context", "job",
)  # fmt: skip


def _grant_list(arguments: Arguments) -> int:
    return tell(arguments, _ask(arguments, "grant_list"), *_GRANT)


def _grant_approve(arguments: Arguments) -> int:
    given = {"seconds": arguments.seconds, "reason": arguments.reason}
    answer = _ask(arguments, "grant_approve", grant=arguments.grant, **given)
    return tell(arguments, answer, *_GRANT)


def _grant_close(arguments: Arguments) -> int:
    answer = _ask(arguments, "grant_close", grant=arguments.grant, reason=arguments.reason)
    return tell(arguments, answer, "grant", "state", "revoked")


def _seconds(text: str) -> int:
    return int(read_duration(text).total_seconds())


def _put(kind: str) -> Run:
    def run(arguments: Arguments) -> int:
        answers = []
        for file in arguments.file:
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise Malformed(f"{file}: expected UTF-8") from error
            answers.append(_ask(arguments, "put", kind=kind, text=text))
        return tell(arguments, answers, "kind", "name", "version", "revoked")

    return run


def _documents(kind: str) -> Run:
    def run(arguments: Arguments) -> int:
        rows = _ask(arguments, "documents", kind=kind)
        more = {"reference": ("values",), "workload": ("minimum",)}.get(kind, ())
        return tell(arguments, rows, "name", "since_version", *more)

    return run


def _show(kind: str) -> Run:
    def run(arguments: Arguments) -> int:
        row = _ask(arguments, "document", kind=kind, name=arguments.name)
        if not arguments.json and not arguments.quiet:
            print(row["text"])
            return YES
        return tell(arguments, row)

    return run


def _remove(kind: str) -> Run:
    def run(arguments: Arguments) -> int:
        answer = _ask(arguments, "remove", kind=kind, name=arguments.name)
        return tell(arguments, answer, "kind", "name", "version", "revoked")

    return run


def _credential_list(arguments: Arguments) -> int:
    rows = _ask(arguments, "credential_list", every=arguments.all)
    return tell(arguments, rows, "jti", "workload", "node", "level", "expires", "status", "cause")


def _credential_revoke(arguments: Arguments) -> int:
    answer = _ask(arguments, "credential_revoke", jti=arguments.jti)
    return tell(arguments, answer, "jti", "workload", "was_valid")


def _relying_party_add(arguments: Arguments) -> int:
    given = {"name": arguments.name, "audience": arguments.audience}
    more = {"may_revoke": arguments.may_revoke, "minimum": arguments.minimum}
    answer = _ask(arguments, "relying_party_add", **given, **more)
    return tell(arguments, answer, "name", "secret")


def _relying_party_list(arguments: Arguments) -> int:
    rows = _ask(arguments, "relying_party_list")
    return tell(arguments, rows, "name", "audience", "minimum", "may_revoke", "added")


def _relying_party_remove(arguments: Arguments) -> int:
    answer = _ask(arguments, "relying_party_remove", name=arguments.name)
    return tell(arguments, answer, "name")


def _ledger_tail(arguments: Arguments) -> int:
    rows = _ask(arguments, "ledger_tail", most=arguments.lines)
    return tell(arguments, rows, "seq", "time", "kind", "subject", "body")


def _ledger_uses(arguments: Arguments) -> int:
    rows = _ask(arguments, "ledger_uses", most=arguments.lines, subject=arguments.of)
    columns = (
        "seq", "time", "verdict", "reasons", "by", "method", "target", "subject", "node", "jti",
        "parent", "job", "context", "grant",
    )  # fmt: skip
    return tell(arguments, rows, *columns)


def _ledger_evidence(arguments: Arguments) -> int:
    answer = _ask(arguments, "ledger_evidence", seq=arguments.seq)
    arguments.output.write_bytes(base64.b64decode(answer["case"]))
    say(arguments, f"next: verifier explain {arguments.output}")
    return YES
