"""The verifier's service: what every verb needs, whoever it is for.

Configuration, keys, database, and the policy that counts. Clock and chance are arguments of the
constructor; everything may be called from any thread.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Self

from verifier.case import Document, Frame, digest_of, policy_of
from verifier.certificates import read_folder
from verifier.config import Config, Misconfigured
from verifier.endorsement import Trust
from verifier.inventory import read_inventory
from verifier.keys import Keys
from verifier.mint import Random
from verifier.policy import Policy
from verifier.reasons import Rejected
from verifier.store import Store, Transaction

STRANGERS_PER_HOUR = 1_000
"""Refusals of those who have proven nothing that go into the ledger; more are only logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """A policy with what it was made of."""

    policy: Policy
    documents: bytes
    """`digest_of` its documents."""


class Service:
    """The verifier: everything but its verbs and its doors."""

    def __init__(
        self,
        config: Config,
        store: Store,
        keys: Keys,
        *,
        now: Callable[[], datetime],
        random: Random,
    ) -> None:
        self.config = config
        self.store = store
        self.keys = keys
        self.trust = read_trust(config)
        self._now = now
        self.random = random
        self.started = self.now()
        self._strangers = [0, 0]
        self._counting = Lock()
        self._policy: tuple[int, PolicyInForce] | None = None
        with self.transaction() as transaction:
            self.policy(transaction)
        read_inventory(config.allow_list)

    @classmethod
    def open(cls, config: Config, *, now: Callable[[], datetime], random: Random) -> Self:
        """Return the service that the configuration describes, its database opened."""
        keys = Keys.load(config.state)
        store = Store(config.database_url)
        with ExitStack() as stack:
            stack.callback(store.close)
            store.demand_agreed(config.shared | keys.names)
            service = cls(config, store, keys, now=now, random=random)
            stack.pop_all()
        return service

    def now(self) -> datetime:
        """Return the time in whole seconds: finer ones would not survive being stored."""
        return self._now().astimezone(UTC).replace(microsecond=0)

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open a transaction at the present time."""
        return self.store.transaction(self.now())

    def reading(self) -> AbstractContextManager[Transaction]:
        """Look at the database at the present time."""
        return self.store.reading(self.now())

    def frame(self, version: int) -> Frame:
        """Return what a policy of this version has besides its documents."""
        return Frame(
            version=version,
            trust_domain=self.config.trust_domain,
            execute_register=self.config.execute_register,
            user_register=self.config.user_register,
            attestor_register=self.config.attestor_register,
        )

    def policy(self, transaction: Transaction) -> PolicyInForce:
        """Return the policy that counts now. One of the same version is the same."""
        version = transaction.policy_version()
        if self._policy is None or self._policy[0] != version:
            documents = read_documents(transaction, version)
            try:
                policy = policy_of(self.frame(version), documents)
            except Rejected as rejected:
                raise Misconfigured(f"the stored policy does not fit: {rejected}") from rejected
            self._policy = version, PolicyInForce(policy=policy, documents=digest_of(documents))
        return self._policy[1]

    def has_room_for_stranger(self) -> bool:
        """Say whether this hour's share of the ledger has room: strangers fill no disk."""
        hour = int(self.now().timestamp()) // 3600
        with self._counting:
            if self._strangers[0] != hour:
                self._strangers = [hour, 0]
            self._strangers[1] += 1
            return self._strangers[1] <= STRANGERS_PER_HOUR


def read_trust(config: Config) -> Trust:
    """Return whose word for an EK counts; raise Misconfigured where a file says nothing."""
    allow_sha1 = config.allow_sha1_certificates
    if not config.ek_roots.is_dir():
        if config.require_ek_certificate:
            raise Misconfigured(f"ek_roots: {config.ek_roots} is not a directory")
        return Trust(roots=(), allow_sha1=allow_sha1)
    folder = read_folder(config.ek_roots)
    for one in folder.findings:
        raise Misconfigured(f"{one.what}: expected {one.expected}, found {one.found}")
    return Trust(roots=folder.certificates, allow_sha1=allow_sha1)


def read_documents(transaction: Transaction, version: int) -> tuple[Document, ...]:
    """Return the policy documents of a version."""
    rows = transaction.documents(version)
    return tuple(Document(kind=row.kind, name=row.name, text=row.text) for row in rows)
