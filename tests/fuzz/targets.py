"""Every parser of bytes that an attacker may have written, as a function that a fuzzer calls.

A target takes any bytes. It may refuse them by the errors that it names, and by no other; what it
accepts has to encode to the same bytes again. `seeds` are inputs to start from, most of them good.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from credential import Refused, dpop, grant, local, status, use, wit, wpt
from credential import crypto as credential_crypto
from credential import jws as credential_jws
from credential import keys as credential_keys
from credential.introspection import Introspected
from credential.keys import Keys
from credential.nonces import Nonces
from credential.reasons import Malformed as CredentialMalformed
from evidence import Body, Challenge, Evidence, Malformed, cbor, tpm
from evidence.certificate import split, trim
from evidence.critical_data import SelinuxState, VerityTable
from evidence.event_log import EventLog, Variable
from evidence.file_signature import FileSignature
from evidence.ima import LIST_HASHES, hash_of, read_measurement, read_records, read_values
from evidence.ima_ascii import read_ascii_records, template_hash_width
from evidence.messages import Enrol, quote_binding
from tests.fuzz import seeds
from tests.simulated_node import NOW
from verifier import plain
from verifier.appraisal import appraise
from verifier.boot_judgement import judge_boot
from verifier.boot_policy import encode_boot_policy, read_boot_policy
from verifier.boot_tools import event_log_json
from verifier.bounds import demand_bounded
from verifier.case import (
    Exported,
    Head,
    chain_over,
    digest_of,
    judge,
    policy_of,
    read_measured,
)
from verifier.certificates import _pem
from verifier.check_log import check_log
from verifier.check_quote import check_quote
from verifier.crypto import certified_keys, file_keys, tpm_keys
from verifier.endorsement import Trust, name_text, read_ek_certificate, verify_endorsement
from verifier.enrolment import judge_enrolment
from verifier.event_log import judge_event_log
from verifier.file_signature import VERITY, verify_file_signature
from verifier.node import Measured
from verifier.policy import Policy
from verifier.quote_files import QuoteFiles
from verifier.reasons import Finding, Reason, Rejected
from verifier.reference import encode_reference, read_reference, read_reference_value
from verifier.sound_log import demand_sound
from verifier.tolerance import REQUESTS, read_policy, tolerate
from verifier.verdict import Refused as RefusedProcess
from verifier.verity import is_unchangeable
from verifier.workload import read_workload

Errors = tuple[type[Exception], ...]

LIST_REGISTERS = (10, 12, 13)
FEW_BYTES = 6144
"""An input of a format whose seeds are short: room for a number of more digits than Python reads
(`sys.int_info.default_max_str_digits`)."""
MORE_BYTES = 16384


class Unfaithful(AssertionError):
    """What was accepted is not what was in the bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser, or several that read the same bytes."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    refusals: Errors = (Malformed,)
    """The only errors that it may raise."""
    most_bytes: int = FEW_BYTES
    is_cbor: bool = False
    """Inputs are changed member by member, besides byte by byte: what is no CBOR is refused before
    anything of it has been looked at."""

    def attempt(self, data: bytes) -> bool:
        """Say whether the bytes are accepted; raise whatever is no refusal."""
        try:
            self.run(data)
        except self.refusals:
            return False
        return True


def demand_same(encoded: bytes, data: bytes) -> None:
    """Raise Unfaithful unless the bytes came back."""
    if encoded != data:
        raise Unfaithful(f"expected {data.hex()}, got {encoded.hex()}")


def first_accepted(data: bytes, parsers: Iterable[Callable[[bytes], object]]) -> None:
    """Give the bytes to all parsers; raise Malformed if none of them takes them."""
    refusals = []
    accepted = 0
    for parse in parsers:
        try:
            parse(data)
        except Malformed as malformed:
            refusals.append(malformed)
        else:
            accepted += 1
    if not accepted:
        raise refusals[0]


# The measurement list


def read_list(data: bytes) -> None:
    """Read the bytes as a list of every bank."""
    widths = sorted(set(LIST_HASHES.values()))
    first_accepted(data, [partial(_read_list, width=width) for width in widths])


def _read_list(data: bytes, width: int) -> None:
    records = list(read_records(data, template_hash_bytes=width))
    demand_same(b"".join(record.encode() for record in records), data)
    for record in records:
        if (
            not record.is_violation
            and len(record.extension("sha256")) != hashlib.sha256().digest_size
        ):
            raise Unfaithful("expected an extension of the bank's size")
        for read in (read_values, read_measurement):
            try:
                read(record)
            except Malformed:
                continue


def read_ascii_list(data: bytes) -> None:
    """Read the bytes as a list in text, and say what it says."""
    _demand_judged(check_log(data, is_ascii=True).findings)
    for record in read_ascii_records(data, template_hash_bytes=template_hash_width(data)):
        try:
            read_values(record)
        except Malformed:
            continue


def check_list(data: bytes) -> None:
    """Say what a list in a file says, whatever bank it is of."""
    algorithms = [one for one in LIST_HASHES if hash_of(one, b"") is not None]
    first_accepted(data, [partial(check_log, log_hash=one) for one in algorithms])


# Boot event logs


def read_event_log(data: bytes) -> None:
    """Read and judge the bytes as a boot event log, and each event's data as a variable."""
    log = EventLog.decode(data)
    demand_same(log.encode(), data)
    judge_event_log(log)
    for event in log.events:
        try:
            demand_same(Variable.decode(event.data).encode(), event.data)
        except Malformed:
            continue


def judge_boot_log(data: bytes) -> None:
    """Judge the bytes as the log of a boot, by a policy, and tell what its events are about."""
    log = EventLog.decode(data)
    json.dumps(event_log_json(log, judge_event_log(log), ()), ensure_ascii=False).encode()
    findings = judge_boot(demand_sound(log), seeds.boot_policy())
    _demand_judged(findings)
    if findings:
        raise Rejected(findings)


# TPM structures


def read_tpm_structure(data: bytes) -> None:
    """Read the bytes as each structure."""
    structures = (tpm.Attest, tpm.Signature, tpm.Public, tpm.CreationData)
    parsers = [lambda it, kind=kind: _round_trip(kind, it) for kind in structures]
    first_accepted(data, [*parsers, tpm.Public.decode_sized])


def _round_trip(kind: type, data: bytes) -> None:
    value = kind.decode(data)  # type: ignore[attr-defined]  # of each of these classes
    demand_same(value.encode(), data)
    if isinstance(value, tpm.Public):
        tpm_keys.spki(value)
        tpm_keys.public_key(value)
        tpm.qualify(value.qualified_name(value.name()), value.name())


# Certificates, keys and signatures


def read_certificate(data: bytes) -> None:
    """Read the bytes as a certificate, and judge it as an EK's and as a CA's."""
    for text in _pem(data):
        trim(text)
    split(data)
    certificate = read_ek_certificate(trim(data))
    demand_same(certificate.der, trim(data))
    certified_keys.certified_spki(certificate.spki)
    certified_keys.is_for_oaep_only(certificate.spki)
    name_text(certificate.subject).encode()
    maker = seeds.maker()
    for leaf, others in ((certificate, ()), (seeds.ek_certificate(), (certificate,))):
        roots = (maker.certificate, *others)
        try:
            verify_endorsement(leaf, trust=Trust(roots=roots, intermediates=others), at=NOW)
        except Rejected as rejected:
            _demand_judged(rejected.findings)


def read_enrolment(data: bytes) -> None:
    """Judge the bytes as the introduction of a node."""
    trust = Trust(roots=(seeds.maker().certificate,))
    try:
        judge_enrolment(
            Enrol.decode(data),
            holder=None,
            ek_holder="",
            inventory=frozenset(),
            trust=trust,
            require_certificate=True,
            now=NOW,
        )
    except Rejected as rejected:
        _demand_judged(rejected.findings)
        raise


def read_key(data: bytes) -> None:
    """Read the bytes as a public key in PEM."""
    key = tpm_keys.pem_key(data)
    if key is not None:
        tpm_keys.label_of(key).encode()
    try:
        file_keys.file_key_id(file_keys.file_key(data.decode("utf-8", "surrogateescape")))
    except ValueError as flaw:
        if key is None:
            raise Malformed("no key") from flaw


def read_critical_data(data: bytes) -> None:
    """Read the bytes as the table of a dm-verity device, or as the state of SELinux."""
    if data.startswith(b"dm_"):
        table = VerityTable.decode(data)
        demand_same(table.encode(), data)
        is_unchangeable(table)
        table.resumed()
    else:
        demand_same(SelinuxState.decode(data).encode(), data)


def read_file_signature(data: bytes) -> None:
    """Read the bytes as security.ima, and judge it as the signature of a file."""
    demand_same(FileSignature.decode(data).encode(), data)
    refusals = []
    for algorithm, digest in seeds.DIGESTS.items():
        for kind in ("", VERITY):
            measured = Measured(
                register=10,
                algorithm=kind + algorithm,
                digest=digest,
                path=b"/usr/bin/x",
                template="ima-sigv2",
                signature=data,
            )
            try:
                verify_file_signature(measured, what="fuzz", signers=(seeds.signer(),))
            except Rejected as rejected:
                _demand_judged(rejected.findings)
                refusals.append(rejected)
            else:
                return
    raise refusals[0]


def check_quote_files(data: bytes) -> None:
    """Judge the members of an array as the files of a quote, as they are and signed anew."""
    match cbor.decode(data):
        case [bytes(message), bytes(signature), bytes(ak), bytes(nonce), bytes(list_), bytes(log)]:
            pass
        case _:
            raise Malformed("expected six files")
    given = QuoteFiles(
        message=message,
        signature=signature,
        ak=ak,
        nonce=nonce,
        ima_log=list_ or None,
        event_log=log or None,
        tolerated=tolerate(asked=REQUESTS),
    )
    node = seeds.node()
    again = replace(given, signature=node.tpm.signature(message), ak=node.tpm.ak.encode())
    first_accepted(data, [lambda _: _check_quote(given), lambda _: _check_quote(again)])


def _check_quote(files: QuoteFiles) -> None:
    checked = check_quote(files)
    _demand_judged(checked.findings)
    json.dumps(checked.answer(), ensure_ascii=False).encode()


# Messages


def read_cbor(data: bytes) -> None:
    """Read the bytes as CBOR, and count it, which never depends on whether it can be read."""
    first_accepted(data, [demand_bounded, lambda it: demand_same(cbor.encode(cbor.decode(it)), it)])


def read_message(data: bytes) -> None:
    """Read the bytes as the message that they say they are."""
    value = cbor.decode(data)
    kinds = {kind.TYPE: kind for kind in seeds.MESSAGES}
    name = value[0] if isinstance(value, list) and value and isinstance(value[0], str) else ""
    kind = kinds.get(name, Evidence)
    demand_same(kind.decode(data).encode(), data)


# Decisions: the node signs and quotes whatever it is given


def appraise_list(data: bytes) -> None:
    """Appraise the bytes as the list of a node whose registers it leads to."""
    node = seeds.node()
    for register in LIST_REGISTERS:
        node.tpm.registers[register] = bytes(32)
    for record in read_records(data):
        if record.register in LIST_REGISTERS:
            node.tpm.extend(record.register, record.extension("sha256"))
    challenge = seeds.challenge()
    evidence = node.unsigned_evidence(challenge, records=data)
    _appraise(evidence, challenge, seeds.policy())


def appraise_body(data: bytes) -> None:
    """Appraise the bytes as what the quote of an honest TPM binds."""
    node = seeds.node()
    challenge, evidence = seeds.challenge(), seeds.honest_evidence()
    node.tpm.registers = list(evidence.registers)
    body = hashlib.sha256(data).digest()
    bound = quote_binding(challenge.trust_domain, challenge.digest(), body)
    quote, signature = node.tpm.quote(bound)
    evidence = replace(evidence, body=data, quote=quote, signature=signature)
    _appraise(evidence, challenge, seeds.policy())
    demand_same(Body.decode(data).encode(), data)


def appraise_evidence(data: bytes) -> None:
    """Appraise the bytes as evidence, the log of the boot included."""
    challenge = seeds.challenge(wants_boot_log=True)
    _appraise(Evidence.decode(data), challenge, seeds.strict_policy())


def _appraise(evidence: Evidence, challenge: Challenge, policy: Policy) -> None:
    node = seeds.node()
    try:
        verdict = appraise(
            evidence,
            signer=node.instance,
            challenge=challenge,
            node=node.enrolled(),
            checkpoint=None,
            measured=(),
            boot_log=b"",
            policy=policy,
            address="",
            now=NOW,
        )
    except Rejected as rejected:
        _demand_judged(rejected.findings)
        raise
    for process in verdict.processes:
        if isinstance(process, RefusedProcess):
            _demand_judged(process.findings)


def _demand_judged(findings: Iterable[Finding]) -> None:
    """Raise Unfaithful where an error that nobody expected was what refused."""
    for finding in findings:
        finding.reason.encode()
        for text in (finding.what, finding.expected, finding.found):
            text.encode()
        if finding.reason is Reason.INTERNAL:
            raise Unfaithful(f"refused by {finding.found}")


def read_case(data: bytes) -> None:
    """Judge an exported case again, as it is and signed anew; and read the parts of one."""
    parsers: list[Callable[[bytes], object]] = [
        lambda it: Exported.decode(it).open(),
        lambda it: demand_same(plain.encode(Head, plain.decode(Head, it)), it),
        lambda it: read_measured((it,)),
        _judge_case,
    ]
    first_accepted(data, parsers)


def _judge_case(data: bytes) -> None:
    """Judge a case whose signature and digests have been made to fit."""
    demand_bounded(data)
    match cbor.decode(data):
        case [str(), members]:
            found = plain.unpack(Exported, members)
        case _:
            raise Malformed("expected a case")
    assert isinstance(found, Exported)
    head = replace(
        plain.decode(Head, found.head),
        message=hashlib.sha256(found.message).digest(),
        measured=chain_over(found.parts),
        boot_log=hashlib.sha256(found.boot_log).digest(),
        documents=digest_of(found.documents),
    )
    signed = Exported.make(
        ledger=found.ledger,
        head=head.encode(),
        message=found.message,
        parts=found.parts,
        boot_log=found.boot_log,
        documents=found.documents,
        key=seeds.signing_key(),
    )
    case, _ = Exported.decode(signed.encode()).open()
    try:
        judge(case)
    except Rejected as rejected:
        _demand_judged(rejected.findings)
        raise


# Policy documents


def read_policy_document(data: bytes) -> None:
    """Read the bytes as every kind of document; text may hold what no encoding does."""
    text = data.decode("utf-8", "surrogateescape")
    refusals = []
    readers = (
        _read_reference,
        _read_workload,
        _read_boot_policy,
        read_reference_value,
        read_policy,
    )
    for read in readers:
        try:
            read(text)
        except Rejected as rejected:
            _demand_judged(rejected.findings)
            refusals.append(rejected)
    if len(refusals) == len(_DOCUMENTS):
        raise refusals[0]


def _read_reference(text: str) -> None:
    reference = read_reference(text)
    if read_reference(encode_reference(reference)) != reference:
        raise Unfaithful("expected the same set")
    policy_of(seeds.frame(), (seeds.document("reference", text),))


def _read_boot_policy(text: str) -> None:
    policy = read_boot_policy(text)
    if read_boot_policy(encode_boot_policy(policy)) != policy:
        raise Unfaithful("expected the same policy")


def _read_workload(text: str) -> None:
    read_workload(text)
    digest_of((seeds.document("workload", text),))


_DOCUMENTS: tuple[Callable[[str], object], ...] = (
    _read_reference,
    _read_workload,
    _read_boot_policy,
    read_reference_value,
    read_policy,
)


# Credentials


def read_token(data: bytes) -> None:
    """Read the bytes as a token, as the payload of one, and as a set of keys."""
    _read_signed(data, _named(wit.TYPE), lambda text: wit.read(text, seeds.keys()))


def read_status_list(data: bytes) -> None:
    """Read the bytes as a status list, and as the payload of one."""

    def read(text: str) -> None:
        found = status.read(text, seeds.keys())
        found.at(0)

    _read_signed(data, _named(status.TYPE), read)


def read_answer(data: bytes) -> None:
    """Read the bytes as the verifier's answer about a token."""
    Introspected.read(data, token=seeds.token(), asked=NOW)


def read_uses(data: bytes) -> None:
    """Read the bytes as lines that a relying party reports."""
    demand_same("".join(f"{use.encode(one)}\n" for one in use.read_batch(data)).encode(), data)


def read_proof(data: bytes) -> None:
    """Read the bytes as a proof, and as the payload of one."""
    point = credential_crypto.point_of(seeds.private_key())
    _read_signed(data, {"typ": wpt.TYPE}, lambda text: wpt.read(text, use_key=point))


def read_dpop(data: bytes) -> None:
    """Read the bytes as a DPoP proof, as the payload of one, and as a nonce."""
    Nonces(bytes(32)).time_of(data.decode("latin-1"))
    point = credential_crypto.point_of(seeds.private_key())
    header = {"typ": dpop.TYPE, "jwk": credential_keys.to_bare_jwk(point)}
    _read_signed(data, header, lambda text: dpop.read(text, use_key=point))


def read_grant(data: bytes) -> None:
    """Read the bytes as a grant, and as the payload of one."""
    question = seeds.grant_question()
    _read_signed(
        data,
        _named(grant.TYPE),
        lambda text: grant.read(text, seeds.keys(), **question),  # type: ignore[arg-type]
    )


def _named(typ: str) -> dict[str, object]:
    return {"typ": typ, "kid": seeds.signing_key().kid}


def _read_signed(data: bytes, header: Mapping[str, object], read: Callable[[str], object]) -> None:
    """Read the text that the bytes are, and the one whose payload they are, well signed."""
    texts = [data.decode("latin-1"), credential_jws.sign(data, seeds.private_key(), header)]
    refusals = []
    for text in texts:
        try:
            read(text)
        except (CredentialMalformed, Refused) as refusal:
            refusals.append(refusal)
    if len(refusals) == len(texts):
        raise refusals[-1]


def read_keys(data: bytes) -> None:
    """Read the bytes as the keys that a relying party trusts."""
    keys = Keys.read(data, trust_domain="example.org")
    if Keys.of(keys.trust_domain, list(keys.points.items())) != keys:
        raise Unfaithful("expected the same keys")


def read_local(data: bytes) -> None:
    """Read the bytes as a message of the attestor's local socket."""
    demand_same(local.decode(data).encode(), data)


_CREDENTIAL: Errors = (CredentialMalformed, Refused)

TARGETS = {
    "ima-list": Target(run=read_list, seeds=seeds.lists),
    "ima-list-text": Target(run=read_ascii_list, seeds=seeds.ascii_lists),
    "check-log": Target(run=check_list, seeds=seeds.lists),
    "event-log": Target(run=read_event_log, seeds=seeds.event_logs, most_bytes=MORE_BYTES),
    "boot": Target(
        run=judge_boot_log,
        seeds=seeds.boot_logs,
        refusals=(Malformed, Rejected),
        most_bytes=MORE_BYTES,
    ),
    "certificate": Target(
        run=read_certificate, seeds=seeds.certificates, refusals=(Malformed, Rejected)
    ),
    "enrolment": Target(
        run=read_enrolment, seeds=seeds.enrolments, refusals=(Malformed, Rejected), is_cbor=True
    ),
    "key": Target(run=read_key, seeds=seeds.public_keys),
    "critical-data": Target(
        run=read_critical_data, seeds=seeds.critical_data, most_bytes=MORE_BYTES
    ),
    "file-signature": Target(
        run=read_file_signature, seeds=seeds.file_signatures, refusals=(Malformed, Rejected)
    ),
    "check-quote": Target(
        run=check_quote_files, seeds=seeds.quotes, most_bytes=MORE_BYTES, is_cbor=True
    ),
    "tpm": Target(run=read_tpm_structure, seeds=seeds.tpm_structures),
    "cbor": Target(run=read_cbor, seeds=seeds.messages, is_cbor=True),
    "message": Target(run=read_message, seeds=seeds.messages, is_cbor=True),
    "appraise-list": Target(
        run=appraise_list, seeds=seeds.appraised_lists, refusals=(Malformed, Rejected)
    ),
    "appraise-body": Target(
        run=appraise_body, seeds=seeds.bodies, refusals=(Malformed, Rejected), is_cbor=True
    ),
    "appraise-evidence": Target(
        run=appraise_evidence,
        seeds=seeds.evidence,
        refusals=(Malformed, Rejected),
        most_bytes=MORE_BYTES,
        is_cbor=True,
    ),
    "case": Target(
        run=read_case,
        seeds=seeds.cases,
        refusals=(Malformed, Rejected),
        most_bytes=MORE_BYTES,
        is_cbor=True,
    ),
    "policy": Target(run=read_policy_document, seeds=seeds.documents, refusals=(Rejected,)),
    "token": Target(run=read_token, seeds=seeds.tokens, refusals=_CREDENTIAL),
    "status-list": Target(run=read_status_list, seeds=seeds.status_lists, refusals=_CREDENTIAL),
    "introspection": Target(
        run=read_answer, seeds=seeds.answers, refusals=_CREDENTIAL, most_bytes=MORE_BYTES
    ),
    "uses": Target(
        run=read_uses, seeds=seeds.uses, refusals=(CredentialMalformed,), most_bytes=MORE_BYTES
    ),
    "proof": Target(run=read_proof, seeds=seeds.proofs, refusals=_CREDENTIAL),
    "dpop": Target(run=read_dpop, seeds=seeds.dpop_proofs, refusals=_CREDENTIAL),
    "grant": Target(run=read_grant, seeds=seeds.grants, refusals=_CREDENTIAL),
    "keys": Target(run=read_keys, seeds=seeds.key_sets, refusals=(CredentialMalformed,)),
    "local": Target(run=read_local, seeds=seeds.local_messages, refusals=(CredentialMalformed,)),
}
"""By name. `make fuzz TARGET=name` runs one."""
