"""Holdings: what is known of the credential that a process holds, and of each of its tokens."""

from verifier.ledger import Entry, Kind
from verifier.mint import Minted, Occasion, Slot, Token, thumbprint_of
from verifier.rows import ProcessRow, TokenRow
from verifier.store import Transaction
from verifier.verdict import Accepted


def remember(
    transaction: Transaction, node: str, accepted: Accepted, minted: Minted, occasion: Occasion
) -> None:
    """Store what the process holds now, and record what is new."""
    process = _process_row(node, accepted, minted.token, now=transaction.now)
    transaction.add(process)
    if minted.slot is not None:
        thumbprint = thumbprint_of(accepted)
        transaction.insert(_token_row(process, minted.slot, thumbprint, ledger=occasion.ledger))
        transaction.append(_entry(process, accepted, thumbprint, occasion))


def _process_row(node: str, accepted: Accepted, token: Token, *, now: int) -> ProcessRow:
    granted = accepted.granted
    return ProcessRow(
        node=node,
        key_name=accepted.key_name,
        core=accepted.core.encode(),
        workload=accepted.workload.id,
        parent_key=accepted.core.origin.parent_key,
        chain_key=token.chain_key,
        step=token.step,
        jti=token.jti,
        issued=int(token.issued.timestamp()),
        expires=int(token.expires.timestamp()),
        policy_version=token.policy_version,
        level=token.level,
        says=token.says,
        until=int(granted.until.timestamp()) if granted.until else 0,
        approval=granted.approval,
        accepted=now,
    )


def _token_row(process: ProcessRow, slot: Slot, thumbprint: str, *, ledger: int) -> TokenRow:
    """Return the row of the token that the process holds, which is a new one."""
    return TokenRow(
        jti=process.jti,
        node=process.node,
        key_name=process.key_name,
        workload=process.workload,
        thumbprint=thumbprint,
        step=process.step,
        level=process.level,
        issued=process.issued,
        expires=process.expires,
        ledger=ledger,
        status_list=slot.number,
        status_index=slot.index,
    )


def _entry(process: ProcessRow, accepted: Accepted, thumbprint: str, occasion: Occasion) -> Entry:
    """Return the ledger's row about the token that the process holds, which is a new one."""
    core, granted = accepted.core, accepted.granted
    body = {
        "node": process.node,
        "key": accepted.key_name.hex(),
        "jti": process.jti,
        "step": process.step,
        "expires": process.expires,
        "level": accepted.level,
        "audiences": granted.audiences,
        "scopes": granted.scopes,
        "context": core.purpose.context,
        "grant": granted.approval,
        "labels": dict(accepted.labels),
        "core": accepted.core_digest.hex(),
        "executable": f"sha256:{core.executable.hex()}",
        "pid": core.pid,
        "cgroup": core.cgroup,
        "parent": core.origin.parent,
        "job": core.origin.job,
        "namespaces": core.namespaces,
        "use_key": thumbprint,
        "decision": occasion.ledger,
    }
    kind = Kind.CREDENTIAL_RENEWED if process.step else Kind.CREDENTIAL_ISSUED
    return Entry(kind=kind, subject=process.workload, body=body, evidence=occasion.evidence)
