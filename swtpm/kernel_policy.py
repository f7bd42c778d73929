"""The kernel policy of `ima_policies/kernel/`, with its three parameters put in."""

from string import Template

from swtpm.programs import ROOT

TEMPLATE = ROOT / "ima_policies" / "kernel" / "procseal.policy"

ATTESTOR_UID = 990
"""The attestor's account in the virtual machine."""


def render(*, users_pcr: int = 12, read_pcr: int = 13, attestor_uid: int = ATTESTOR_UID) -> bytes:
    """Return the rules that the kernel loads."""
    template = Template(TEMPLATE.read_text())
    rules = [line for line in template.template.splitlines() if not line.startswith("#")]
    return (
        Template("".join(line + "\n" for line in rules))
        .substitute(users_pcr=users_pcr, read_pcr=read_pcr, attestor_uid=attestor_uid)
        .encode()
    )
