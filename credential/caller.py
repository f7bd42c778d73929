"""Who has made a request: the one value that an application gets of a request that was let in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from credential.wit import Claims, Level, ProofKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A process, as its token says and `credential.check` has found good for this request."""

    use: str
    """The id of the request's log line, and of its row in the verifier's ledger."""
    id: str
    """SPIFFE ID."""
    issuer: str
    level: Level
    audience: str
    """The relying party's own name, for which the request was proven."""
    scopes: tuple[str, ...]
    """What the token may be used for: for the application to enforce."""
    binding: str
    """`launched` or `attached`."""
    proof_key: ProofKey
    """Who holds the key that signs its proofs; `process` is the weakest."""
    executable: str
    """`sha256:` and hexadecimal digest."""
    set: str
    """Name of the reference set that holds the executable."""
    node: str
    labels: Mapping[str, str]
    """What the verifier's operators call the node."""
    unit: str
    user: str
    parent: str
    """SPIFFE ID of the process that had it launched for `job`; both empty where none had."""
    job: str
    context: Mapping[str, str]
    """What the process said that it is for. Nobody vouches for it."""
    grant: str
    """Id of the operator's approval that it rests on, empty where none was needed."""
    jti: str
    issued: datetime
    """When the evidence was judged that the token was made from."""
    expires: datetime
    evidence: str
    """`sha256:` and the digest of that evidence."""
    ledger: int
    """Number of the decision in the verifier's ledger."""

    @classmethod
    def of(cls, claims: Claims, *, audience: str, use: str) -> "Caller":
        """Return the caller of a request that `check` has let in with these claims."""
        said = claims.procseal
        return cls(
            use=use,
            id=claims.id,
            issuer=claims.issuer,
            level=said.level,
            audience=audience,
            scopes=said.scopes,
            binding=said.binding,
            proof_key=said.proof_key,
            executable=said.executable,
            set=said.set,
            node=said.node,
            labels=MappingProxyType(dict(said.labels)),
            unit=said.unit,
            user=said.user,
            parent=said.parent,
            job=said.job,
            context=MappingProxyType(dict(said.context)),
            grant=said.grant,
            jti=claims.jti,
            issued=claims.issued,
            expires=claims.expires,
            evidence=said.evidence,
            ledger=said.ledger,
        )
