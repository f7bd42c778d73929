"""What every conversation needs of the daemon."""

from dataclasses import dataclass

from attestor.admission import Admission
from attestor.jobs import Jobs
from attestor.looker import Looker
from attestor.machine import Machine
from attestor.rounds import Rounds
from attestor.tpm import Tpm
from attestor.watch import OnEnd, Watch
from attestor.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The daemon's parts, as conversations use them."""

    machine: Machine
    rounds: Rounds
    tpm: Worker[Tpm]
    admission: Admission
    watch: Watch
    strangers: Worker[Looker]
    """Looks at whoever asks for the first time; may be slow."""
    acquaintances: Worker[Looker]
    """Looks at processes that were accepted."""
    jobs: Jobs
    on_end: OnEnd
    """Forgets a process, and tells the verifier."""
