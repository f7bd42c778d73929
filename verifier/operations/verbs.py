"""The verbs: everything that the operators' socket lets through, by the name that it has there."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, get_args, get_origin, get_type_hints

from evidence import Malformed
from verifier.operations import (
    credentials,
    documents,
    grants,
    labels,
    ledger,
    nodes,
    relying_parties,
)
from verifier.operations.status import count_all
from verifier.reasons import label
from verifier.service import Service

VERBS: dict[str, Callable[..., object]] = {
    "node_list": nodes.list_nodes,
    "node_approve": nodes.approve_node,
    "node_remove": nodes.remove_node,
    "node_forget": nodes.forget_node,
    "node_approve_instance": nodes.approve_instance,
    "node_label": labels.label_node,
    "grant_list": grants.list_grants,
    "grant_approve": grants.approve_grant,
    "grant_close": grants.close_grant,
    "put": documents.put_document,
    "remove": documents.remove_document,
    "documents": documents.list_documents,
    "document": documents.show_document,
    "credential_list": credentials.list_credentials,
    "credential_revoke": credentials.revoke_credential,
    "relying_party_add": relying_parties.add_relying_party,
    "relying_party_list": relying_parties.list_relying_parties,
    "relying_party_remove": relying_parties.remove_relying_party,
    "ledger": ledger.read_ledger,
    "ledger_tail": ledger.read_tail,
    "ledger_uses": ledger.read_uses,
    "ledger_evidence": ledger.export_evidence,
    "status": count_all,
}


def call(service: Service, name: str, arguments: Mapping[str, object]) -> object:
    """Return what the verb answers; raise Malformed on an unknown one or other arguments."""
    verb = VERBS.get(name)
    if verb is None:
        raise Malformed(f"expected one of the verbs {', '.join(VERBS)}")
    hints = get_type_hints(verb)
    for key, value in arguments.items():
        if key not in hints or not _is_a(value, hints[key]):
            raise Malformed(f"{name}: {label(key)} is not what it takes")
    try:
        bound = signature(verb).bind(service, **arguments)
    except TypeError as error:
        raise Malformed(f"{name}: {error}") from error
    return verb(*bound.args, **bound.kwargs)


def _is_a(value: object, hint: Any) -> bool:  # noqa: ANN401 - a type, or a list of one
    if get_origin(hint) is not list:
        return type(value) is hint
    (member,) = get_args(hint)
    return isinstance(value, list) and all(type(one) is member for one in value)
