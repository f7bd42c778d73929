"""Protection: what stands between a route and a stranger."""

from enum import StrEnum


class Protection(StrEnum):
    """What stands between a route and a stranger."""

    NOTHING = "public: it tells what everybody may know"
    TPM = "activation: only the TPM with the EK can answer, and only the inventory counts"
    SIGNATURE = "signature by an instance key; an unproven one gets a challenge and no more"
    INSTANCE = "signature by the instance key of the last accepted quote"
    RELYING_PARTY = "name and secret of a relying party, which hears of its own audience only"
