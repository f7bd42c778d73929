"""An attestor that runs, on a software TPM, with a verifier that runs, and no measuring kernel.

The kernel's part is on paper: a list that names the puppet and what else the tests execute, with
the registers extended as a kernel would. Everything else is real: the daemon, its looks at real
processes, the TPM's signatures, the verifier and its doors.
"""

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from attestor.enrolment import identify
from attestor.peer import Kernel
from attestor.tpm import Tpm
from evidence.ima import Record
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.puppets import Launched, LocalPuppet, build
from tests.simulated_keys import sha256
from tests.simulated_node import KERNEL_POLICY, KERNEL_VERSION, make_record
from verifier.client import call
from verifier.policy import ReferenceSet
from verifier.reference import encode_reference

ROOT = Path(__file__).resolve().parent.parent.parent
NODE = "build-7"
TRUST_DOMAIN = "example.org"
AUDIENCE = "https://ledger.example.org"
ATTACHED_ID = "spiffe://example.org/attached"
LAUNCHED_ID = "spiffe://example.org/launched"
OTHER_ID = "spiffe://example.org/other"
SHORT_ID = "spiffe://example.org/short"
"""Three for `nobody`, the last with a short lease, and one for `daemon`."""
SHORT_LEASE_SECONDS = 4
NOBODY = 65534
DAEMON = 1
OTHERS = ("/usr/bin/sleep", "/usr/bin/cat", "/usr/bin/true")
START_SECONDS = 100
"""How long anything may take: after that it hangs, and pytest says less than the log."""


def workload(id_: str, *, user: str = "nobody", lease: str = "5m") -> str:
    return "\n".join(
        (
            "version = 1",
            f'id = "{id_}"',
            'executable = { set = "puppets", file = "puppet" }',
            'mapped = ["system", "puppets"]',
            f'user = "{user}"',
            f'lease = "{lease}"',
            "any_starter = true",
            'minimum = "lab"',
            "canary = false",  # the kernel's list is on paper
            "[[use]]",
            f'audience = "{AUDIENCE}"',
            'scopes = ["post"]',
            "",
        )
    )


@dataclass
class World:
    """The running programs and where they are."""

    directory: Path
    tcti: str
    port: int = 0
    make_puppet: Callable[[Path], Path] = build
    others: Sequence[str] = OTHERS
    """Programs that are known besides, and with them their libraries."""
    puppet: Path = field(init=False)
    records: list[Record] = field(default_factory=list)
    attestor_pid: int = 0
    ends: dict[str, ExitStack] = field(default_factory=dict)
    kernel: Kernel | None = None
    """What the attestor is told of this machine's kernel; None: it finds out."""

    def __post_init__(self) -> None:
        self.directory.chmod(0o755)
        (self.directory / "programs").mkdir()
        self.puppet = self.make_puppet(self.directory / "programs" / "puppet")

    @property
    def socket(self) -> Path:
        return self.directory / "attestor.sock"

    @property
    def config(self) -> Path:
        return self.directory / "attestor.toml"

    def start_puppet(self, *, uid: int = NOBODY, path: Path | str | None = None) -> LocalPuppet:
        return LocalPuppet(path or self.puppet, uid=uid)

    def copy_of_puppet(self, name: str, *, more: bytes = b"") -> Path:
        """Return a copy of the puppet's program, `more` at its end."""
        copy = self.puppet.with_name(name)
        copy.write_bytes(self.puppet.read_bytes() + more)
        copy.chmod(0o755)
        return copy

    def launch_puppet(self) -> "Launched":
        """Have the attestor launch a puppet for `nobody`, whom a test then talks to."""
        return Launched(
            [
                sys.executable, "-m", "attestor", "run", "--config", self.config, "--",
                str(self.puppet),
            ],
            uid=NOBODY, directory=ROOT,
        )  # fmt: skip

    def operator(self, verb: str, **arguments: object) -> Any:  # noqa: ANN401
        return call(self.directory / "state" / "verifier.sock", verb, **arguments)

    def credentials(self) -> list[dict[str, Any]]:
        found = self.operator("credential_list", every=True)
        assert isinstance(found, list)
        return found

    def status(self) -> dict[str, Any]:
        told = self.attestor("status", "--json", check=False)
        found = json.loads(told.stdout)
        assert isinstance(found, dict)
        return found

    def attestor(
        self,
        verb: str,
        *words: str,
        check: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the attestor's to its end."""
        return subprocess.run(
            [sys.executable, "-m", "attestor", verb, "--config", self.config, *words],
            cwd=ROOT, capture_output=True, text=True, check=check, timeout=START_SECONDS,
            **options,
        )  # fmt: skip

    def start(self, room: str) -> int:
        """Run a daemon until `stop`, or the end of this world; return its pid."""
        self.ends[room] = ExitStack()
        return self.ends[room].enter_context(self.running(room)).pid

    def stop(self, *rooms: str) -> None:
        for room in rooms:
            self.ends.pop(room, ExitStack()).close()

    def stop_verifier(self) -> None:
        self.stop("verifier")

    def stop_attestor(self) -> None:
        self.attestor_pid = 0
        self.stop("attestor")

    # The kernel's part

    def files(self) -> dict[str, bytes]:
        """Return what is measured: path and digest."""
        names = {str(self.puppet): self.puppet, **{name: Path(name) for name in self.others}}
        for name in self.others:
            told = subprocess.run(["ldd", name], capture_output=True, text=True, check=True)
            names.update({word: Path(word) for word in told.stdout.split() if word.startswith("/")})
        return {name: sha256(path.read_bytes()) for name, path in names.items()}

    def measure(self, *records: Record) -> None:
        """Write records and extend their registers; only while nobody else has the TPM."""
        with Tpm(self.tcti) as tpm:
            for record in records:
                tpm.extend(record.register, record.extension("sha256"))
        self.records += records
        path = self.directory / "list"
        path.write_bytes(b"".join(one.encode() for one in self.records))

    def boot(self) -> None:
        """Measure a machine that booted well and runs the attestor."""
        with Tpm(self.tcti) as tpm:
            aggregate = sha256(b"".join(tpm.read_registers()[:10]))
        self.measure(
            make_record("boot_aggregate", aggregate),
            make_record(
                "kernel_version", sha256(KERNEL_VERSION), template="ima-buf", last=KERNEL_VERSION
            ),
            make_record("/etc/ima/ima-policy", sha256(KERNEL_POLICY)),
            *(make_record(path, digest) for path, digest in self.files().items()),
            make_record("/usr/lib/procseal/attestor/serve.py", sha256(b"serve"), register=13),
        )

    def reference_sets(self) -> tuple[str, str]:
        system = {path.lstrip("/"): (digest,) for path, digest in self.files().items()}
        puppet = {"puppet": (system.pop(str(self.puppet).lstrip("/"))[0],)}
        system["kernel_version"] = (sha256(KERNEL_VERSION),)
        system["usr/lib/procseal/attestor/serve.py"] = (sha256(b"serve"),)
        sets = ReferenceSet(name="system", files=system), ReferenceSet(name="puppets", files=puppet)
        return encode_reference(sets[0]), encode_reference(sets[1])

    # The programs

    def make_verifier(self, manufacturer: Manufacturer) -> None:
        words = ["--trust-domain", TRUST_DOMAIN, "--port", str(self.port), "--host", "127.0.0.1"]
        subprocess.run(
            [sys.executable, "-m", "verifier", "init", *words, "--quiet", self.directory],
            cwd=ROOT, check=True,
        )  # fmt: skip
        for name in ("root.pem", "intermediate.pem"):
            shutil.copy(manufacturer.root_file.with_name(name), self.directory / "ek-roots")

    def configure(self) -> None:
        for text in self.reference_sets():
            self.operator("put", kind="reference", text=text)
        self.operator("put", kind="kernel-policy", text=KERNEL_POLICY.decode())
        self.operator("put", kind="workload", text=workload(ATTACHED_ID))
        self.operator("put", kind="workload", text=workload(LAUNCHED_ID))
        self.operator("put", kind="workload", text=workload(OTHER_ID, user="daemon"))
        short = workload(SHORT_ID, lease=f"{SHORT_LEASE_SECONDS}s")
        self.operator("put", kind="workload", text=short)

    def allow(self) -> None:
        with Tpm(self.tcti) as tpm:
            ek_hash = identify(tpm).ek_hash
        (self.directory / "allow-list").write_text(f"{ek_hash} {NODE}\n")

    def write_config(self, interval: str, **more: Any) -> None:  # noqa: ANN401
        options: dict[str, Any] = {
            "node": NODE,
            "verifier": f"https://127.0.0.1:{self.port}",
            "ca_file": "ca.pem",
            "tcti": self.tcti,
            "socket": "attestor.sock",
            "state": "attestor",
            "interval": interval,
            "measurement_list": "list",
            "look_seconds": 30,
            **more,
        }
        (self.directory / "attestor").mkdir(mode=0o700, exist_ok=True)
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in options.items()]
        self.config.write_text("".join(lines))

    @contextmanager
    def running(self, room: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a daemon of ours for the time of the block."""
        log = self.directory / f"{room}.log"
        with log.open("ab") as told:
            process = subprocess.Popen(
                [sys.executable, *self._start_line(room), *words],
                cwd=ROOT, stdout=told, stderr=told,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)

    def _start_line(self, room: str) -> list[str]:
        if room == "verifier" or self.kernel is None:
            return ["-m", room, "serve", "--config", str(self.directory / f"{room}.toml")]
        path = str(self.config)
        code = (
            "from pathlib import Path; from attestor.config import Config;"
            " from attestor.peer import Kernel; from attestor.serve import serve;"
            f" serve(Config.load(Path({path!r})), kernel={self.kernel!r})"
        )
        return ["-c", code]

    def wait_until(self, happened: Any, what: str) -> None:  # noqa: ANN401
        deadline = time.monotonic() + START_SECONDS
        while not happened():
            assert not self.attestor_pid or Path(f"/proc/{self.attestor_pid}/exe").exists(), (
                self.log()
            )
            assert time.monotonic() < deadline, f"{what}: {self.log()}"
            time.sleep(0.05)

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.directory.glob("*.log")))


@contextmanager
def open_world(  # noqa: PLR0913 - what a test may want otherwise
    manufacturer: Manufacturer,
    tpm: SoftwareTpm,
    *,
    interval: str = "1s",
    extended: bytes = b"",
    make_puppet: Callable[[Path], Path] = build,
    others: Sequence[str] = OTHERS,
    kernel: Kernel | None = None,
    **more: Any,  # noqa: ANN401
) -> Iterator[World]:
    """Start everything, and end it with the block.

    `extended` is what somebody extended PCR 15 with before; `make_puppet` makes the program at a
    path, `others` are known besides; `kernel` is what the attestor is told of this machine's;
    `more` is configuration.
    """
    with ExitStack() as ends:
        directory = Path(mkdtemp(prefix="procseal-"))
        ends.callback(shutil.rmtree, directory)
        world = World(
            directory,
            ends.enter_context(tpm),
            port=free_port(),
            make_puppet=make_puppet,
            others=others,
            kernel=kernel,
        )
        ends.callback(lambda: print(world.log()))
        world.boot()
        if extended:
            with Tpm(world.tcti) as one:
                one.extend(15, extended)
        world.make_verifier(manufacturer)
        world.allow()
        world.write_config(interval, **more)
        ends.callback(world.stop, "attestor", "verifier")
        world.start("verifier")
        world.wait_until((directory / "state" / "verifier.sock").exists, "the verifier starts")
        world.configure()
        world.attestor_pid = world.start("attestor")
        world.wait_until(world.socket.exists, "the attestor starts")
        yield world


def free_port() -> int:
    """Return a port that is free, and that no outgoing connection takes while nobody listens."""
    while True:
        port = 12000 + secrets.randbelow(8000)  # below the range of outgoing connections
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
