"""The next command for each refusal: what a person does about it.

A reason without a line of its own has the one of its first word, or none.
"""

from verifier.reasons import Reason

NEXT: dict[Reason | str, str] = {
    Reason.ENROL_EK_NOT_IN_INVENTORY: "verifier node approve NODE",
    Reason.ENROL_EK_CERTIFICATE: "verifier check-ek CERT --roots DIR",
    Reason.ENROL_EK_CERTIFICATE_MISSING: "attestor ek, or `require_ek_certificate = false`",
    Reason.ENROL_TAKEN: "verifier node list",
    Reason.ENROL_EK_ELSEWHERE: "verifier node list",
    Reason.ENROL_CHALLENGE: "attestor enrol",
    Reason.ENROL_ANSWER: "attestor enrol",
    "enrol": "attestor ek",
    Reason.EK_CHAIN: "put that certificate of its maker into `ek_roots` or --intermediates",
    Reason.EK_ROOT: "put the TPM manufacturer's root into `ek_roots` or --roots",
    Reason.EK_NO_ROOTS: "put the TPM manufacturer's root into `ek_roots` or --roots",
    Reason.EK_EXPIRED: "check-ek --at DATE judges as of another day",
    Reason.EK_SHA1: "`allow_sha1_certificates = true`, or check-ek --allow-sha1, for an old chip",
    Reason.EK_KEY_FACTORABLE: "update the TPM's firmware, then make a new EK",
    Reason.NODE_UNKNOWN: "attestor enrol",
    Reason.NODE_PENDING: "verifier node approve NODE",
    Reason.MESSAGE_INSTANCE: "attestor status",
    Reason.INSTANCE_HAND_OVER: "verifier node approve-instance NODE INSTANCE, or reboot the node",
    Reason.INSTANCE_SECOND: "verifier node approve-instance NODE INSTANCE, or reboot the node",
    "instance": "reboot the node",
    "challenge": "attestor status",
    Reason.QUOTE_RESET: "verifier node remove NODE, then attestor enrol",
    Reason.QUOTE_RESTART: "reboot the node",
    "quote": "attestor check-node",
    Reason.BOOT_AGGREGATE_AGAIN: "reboot the node: lists that kexec carries over are not judged",
    Reason.BOOT_AGGREGATE_OLD: "boot Linux 5.8 or later, with ima_hash=sha256",
    Reason.BOOT_AGGREGATE_HASH: "boot with ima_hash=sha256",
    Reason.BOOT_LOG_MISSING: "attestor check-config: is `boot_log` the file that the kernel has?",
    Reason.BOOT_LOG_REPLAY: "reboot the node",
    Reason.BOOT_COMMAND_LINE_MISSING: "boot what measures it (GRUB 2.06, systemd-stub, Linux 5.18);"
    " --command-line gives a text of which the log has the digest",
    Reason.BOOT_SECURE_BOOT: "switch Secure Boot on in the firmware's setup",
    **dict.fromkeys(
        (
            Reason.BOOT_VARIABLE,
            Reason.BOOT_AUTHORITY,
            Reason.BOOT_IMAGE,
            Reason.BOOT_COMMAND_LINE,
            Reason.BOOT_FIRMWARE,
            Reason.BOOT_EVENT,
        ),
        "verifier boot-policy make, put, if the machine is known to boot well like this",
    ),
    "boot": "attestor check-node",
    Reason.LIST_UNKNOWN: "verifier reference put FILE, if the file is known to be good",
    Reason.LIST_UNKNOWN_ATTESTOR: "verifier reference put FILE, if the file is known to be good",
    Reason.LIST_VIOLATION: "reboot the node",
    Reason.LIST_PADDED: "boot Linux 5.8 or later: older kernels extend SHA-1 in every bank",
    Reason.LIST_HASH: "boot with ima_hash=sha256, and sign files with SHA-256",
    Reason.LIST_LEGACY: "boot with ima_template=ima-sig",
    Reason.LIST_TEMPLATE: "boot with ima_template=ima-sig, without ima_template_fmt",
    Reason.LIST_TEMPLATE_HASH: "compare with the node's own list: this one was changed",
    Reason.LIST_ALGORITHM: "look at the file's attribute security.ima: it names the algorithm",
    Reason.LIST_DIGEST: "look at the file's attribute security.ima, and boot with ima_hash=sha256",
    Reason.LIST_BUFFER: "compare with the node's own list: this one was changed",
    Reason.LIST_REVOKED: "reboot the node without the file: its signer has revoked it",
    Reason.LIST_SIGNATURE_KEY: "verifier reference put FILE, with the file or a signer that has it",
    Reason.LIST_SIGNATURE_PATH: "verifier reference put FILE, with a signer that may have it there",
    "ima-list": "attestor check-node",
    Reason.KERNEL_POLICY_UNKNOWN: "verifier kernel-policy put FILE",
    Reason.KERNEL_POLICY_RULES: "reboot the node; or write the file as the kernel shows its rules",
    Reason.KERNEL_POLICY_CANARY: "reboot the node: its kernel does not measure what it should",
    "kernel-policy": "attestor check-node",
    Reason.POLICY_EMPTY: "verifier workload put FILE, verifier reference put FILE",
    Reason.PROCESS_NOT_WANTED: "verifier workload list",
    Reason.PROCESS_AMBIGUOUS: "ask for one of the identities by name",
    Reason.PROCESS_EXECUTABLE: "verifier reference put FILE, if the file is known to be good",
    Reason.PROCESS_INTERPRETER: "verifier workload put FILE, with `interpreter`, if it is Python",
    Reason.PROCESS_SCRIPT: "verifier workload list",
    Reason.PROCESS_SCRIPT_UNPROVEN: "attestor run --interpreter PYTHON -- SCRIPT",
    Reason.PROCESS_MODULE: "verifier reference put FILE, if the module is known to be good",
    Reason.PROCESS_MAPPED: "verifier workload put FILE, with the set that holds the mapped file",
    Reason.PROCESS_NOT_MEASURED: "attestor check-node",
    Reason.PROCESS_USER: "verifier workload list",
    Reason.PROCESS_UNIT: "verifier workload list",
    Reason.PROCESS_STARTER: "attestor run --user USER -- PROGRAM ARGUMENTS",
    Reason.PROCESS_PARENT_MISSING: "attestor run --job ID -- PROGRAM ARGUMENTS, by the parent",
    Reason.PROCESS_PARENT: "verifier workload list",
    Reason.PROCESS_ARGUMENTS: "attestor run -- PROGRAM ARGUMENTS, those of the workload",
    Reason.PROCESS_ENVIRONMENT: "attestor run --env NAME=VALUE, for each that the workload has",
    Reason.PROCESS_CONFIGURATION: "attestor run --file PATH, for each that the workload has; `chown"
    " root`; verifier workload put FILE, if the file is known to be good",
    Reason.PROCESS_CGROUP: "verifier workload list",
    Reason.PROCESS_IMAGE: "verifier reference put FILE, if the file is one of the image's",
    Reason.PROCESS_PATCHED: "start the program again",
    Reason.PROCESS_SPLIT: "start the program again",
    Reason.PROCESS_LAYOUT: "docs/decisions/0013-layout.md says which programs are mapped otherwise",
    Reason.PROCESS_CANARY: "ask again in a moment, or name in `canary_directories` of the attestor "
    "a directory on that file system in which root may make files that can be executed",
    Reason.PROCESS_POSTURE: "attestor check-node, on the node",
    Reason.PROCESS_LABELS: "verifier node label NODE NAME=VALUE, if that is where the node is",
    Reason.PROCESS_NETWORK: "verifier workload put FILE, with that network, if the node may be"
    " there",
    Reason.USE_AUDIENCE: "verifier workload show ID",
    Reason.USE_SCOPE: "verifier workload show ID",
    Reason.USE_CONTEXT: "verifier workload show ID",
    Reason.USE_AMBIGUOUS: "name an audience, and scopes, in the request",
    Reason.USE_WINDOW: "ask again when it is open",
    Reason.USE_GRANT: "verifier grant list, then verifier grant approve ID --for 15m; ask again",
    Reason.PROCESS_LEVEL: "docs/levels.md says what each level takes; attestor check-node, on the"
    " node",
    Reason.INTERNAL: "the verifier's log",
}


def next_step(reason: str) -> str:
    """Return what to do about a refusal of this reason, empty where there is nothing to say."""
    return NEXT.get(reason) or NEXT.get(reason.partition(".")[0], "")


FOR_FILES: dict[Reason | str, str] = {
    Reason.QUOTE_AK: "quote with a restricted signing key, as tpm2_createak makes",
    Reason.QUOTE_AK_UNCHECKED: "tpm2_readpublic -f tss for the key's public area, "
    "or --ak-attributes-unchecked",
    Reason.QUOTE_SCHEME: "give the key that signed: its scheme is another",
    Reason.QUOTE_SIGNATURE: "give the message, signature and key of the same quote",
    Reason.QUOTE_SHA1: "quote a larger bank, with a key that signs by SHA-256; or --allow-sha1",
    Reason.QUOTE_TYPE: "give the message that tpm2_quote wrote",
    Reason.QUOTE_NONCE: "quote again with this nonce: the evidence is of another time",
    Reason.QUOTE_SELECTION: "give --pcr for the registers that were quoted",
    Reason.QUOTE_EMPTY: "quote again with registers: this TPM or tool has quoted none",
    Reason.QUOTE_BANK: "quote sha256, sha384 or sha512",
    Reason.QUOTE_BANKS_MIXED: "quote all of the registers in one bank",
    Reason.QUOTE_VALUE_MISSING: "give --pcr for each of them, or --event-log, or --ima-log",
    Reason.QUOTE_DIGEST: "read registers and logs again: these are of another moment or machine",
    Reason.LIST_REPLAY: "read the list after the quote, and give the values of other registers",
    Reason.LIST_PADDED_BANK: "--padded-sha1, if the kernel is older than 5.8",
    "boot": "give the list of the boot that was quoted",
    "event-log": "give the log of the boot that was quoted",
}
"""What a person with files does about a refusal, where that is another thing."""


def next_step_for_files(reason: str) -> str:
    """Return what to do about a refusal of `check-quote`."""
    found = FOR_FILES.get(reason) or NEXT.get(reason)
    return found or FOR_FILES.get(reason.partition(".")[0]) or "docs/check-quote.md"
