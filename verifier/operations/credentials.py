"""Credentials: the tokens that were issued, and their end at an operator's word."""

from verifier.endings import revoke_all
from verifier.ledger import Cause
from verifier.operations.answers import Json, Unfit, time_text
from verifier.reasons import label
from verifier.rows import TokenRow
from verifier.service import Service


def list_credentials(service: Service, every: bool = False) -> list[Json]:  # noqa: FBT001, FBT002 - JSON
    """Return the tokens that have not expired, or every one that was ever issued."""
    now = int(service.now().timestamp())
    with service.transaction() as transaction:
        tokens = transaction.tokens(expires_after=0 if every else now)
        return [_token_json(row) for row in tokens]


def revoke_credential(service: Service, jti: str) -> Json:
    """End the credential that this token belongs to."""
    with service.transaction() as transaction:
        token = transaction.token(jti)
        if token is None:
            raise Unfit("credential.unknown", label(jti), expected="the jti of a token")
        process = transaction.process(token.node, token.key_name)
        if process is not None:
            revoke_all(transaction, [process], Cause.OPERATOR)
        return {"jti": jti, "workload": token.workload, "was_valid": process is not None}


def _token_json(row: TokenRow) -> Json:
    return {
        "jti": row.jti,
        "workload": row.workload,
        "node": row.node,
        "key": row.key_name.hex(),
        "step": row.step,
        "level": row.level,
        "issued": time_text(row.issued),
        "expires": time_text(row.expires),
        "status": row.status,
        "cause": row.cause,
        "revoked": time_text(row.revoked),
        "decision": row.ledger,
    }
