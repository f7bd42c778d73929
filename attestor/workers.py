"""The daemon's threads: one for each thing that blocks."""

from attestor.canary import Canaries
from attestor.config import Config
from attestor.looker import Looker
from attestor.measurement_list import MeasurementList
from attestor.nursery import Nursery
from attestor.tpm import Tpm
from attestor.worker import Worker


class Workers:
    """What blocks, each in a thread of its own; canaries have one for each that is let loose."""

    def __init__(self, config: Config, tpm: Tpm, nursery: Nursery) -> None:
        self.nursery = nursery
        self._lookers = tuple(
            Looker(
                nursery.new_looker,
                most_bytes=config.most_file_bytes,
                deadline_seconds=config.look_seconds,
            )
            for _ in range(2)
        )
        self.canaries = Canaries.within(
            config.interval, nursery.new_canary, config.canary_directories
        )
        self.tpm = Worker(tpm, "tpm")
        self.strangers, self.acquaintances = (Worker(one, "looker") for one in self._lookers)
        self.measurement_list = Worker(MeasurementList(str(config.measurement_list)), "list")

    def close(self) -> None:
        """Let the lookers end, and wait for what is going on."""
        for looker in self._lookers:
            looker.close()
        for worker in (self.tpm, self.strangers, self.acquaintances, self.measurement_list):
            worker.close()
