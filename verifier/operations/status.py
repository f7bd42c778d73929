"""Status: what there is, in numbers."""

from verifier.operations.answers import Json
from verifier.rows import ENROLLED, PENDING, REMOVED
from verifier.service import Service


def count_all(service: Service) -> Json:
    """Return what there is, in numbers."""
    with service.transaction() as transaction:
        nodes = transaction.nodes()
        last = transaction.ledger(most=1, last=True)
        numbers = {
            "nodes": {
                status: sum(row.status == status for row in nodes)
                for status in (ENROLLED, PENDING, REMOVED)
            },
            "credentials": len(transaction.processes()),
            "policy_version": transaction.policy_version(),
            "ledger": last[0].seq if last else 0,
        }
    config = service.config
    own = {"issuer": config.issuer, "trust_domain": config.trust_domain}
    return {**own, "started": service.started.isoformat(), **numbers}
