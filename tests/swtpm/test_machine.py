"""The virtual machine: what goes in and out of it, and that its failures are loud."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swtpm import Failed, Payload, SoftwareTpm, VirtualMachine

pytestmark = pytest.mark.vm


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from the host")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def service() -> Iterator[int]:
    """The port of an HTTP server on the host's loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def machine(make_tpm: Callable[[], SoftwareTpm], service: int) -> Iterator[VirtualMachine]:
    payload = Payload()
    payload.add_directory("/etc/procseal", owner="attestor", mode=0o700)
    payload.add("/etc/procseal/attestor.toml", b"# of this boot\n", owner="attestor", mode=0o600)
    services = {("10.0.2.100", 80): service}
    with VirtualMachine.boot(tpm=make_tpm(), services=services, payload=payload) as machine:
        yield machine


def test_commands_have_a_code_and_an_output(machine: VirtualMachine) -> None:
    done = machine.run("echo out; echo err >&2; exit 3")
    assert (done.code, done.output) == (3, "out\nerr")


def test_commands_run_as_other_users(machine: VirtualMachine) -> None:
    assert machine.run("id -un; cd && pwd", user="alice").output == "alice\n/home/alice"


def test_a_user_may_keep_a_capability(machine: VirtualMachine) -> None:
    capabilities = ("sys_ptrace", "dac_read_search")
    read = "cat /sys/kernel/security/ima/binary_runtime_measurements >/dev/null"
    assert machine.run(read, user="attestor").code == 1
    assert machine.run(read, user="attestor", capabilities=capabilities).code == 0


def test_a_command_without_an_end_is_ended(machine: VirtualMachine) -> None:
    with pytest.raises(Failed, match="no end within 1 s"):
        machine.run("sleep 1000", timeout=1)
    assert machine.run("grep -qx sleep /proc/[0-9]*/comm").code == 1


def test_a_program_in_the_background_outlives_its_command(machine: VirtualMachine) -> None:
    pid = machine.start("sleep 1000", output="/tmp/sleep.log", user="alice")
    machine.run(f"until grep -qx sleep /proc/{pid}/comm; do sleep 0.1; done", timeout=20).check()
    assert machine.run(f"kill {pid}").code == 0


def test_files_go_in_and_out_unchanged(machine: VirtualMachine) -> None:
    data = bytes(range(256)) * 1000
    machine.put("/home/alice/data", data, owner="alice", mode=0o640)
    assert machine.get("/home/alice/data") == data
    assert machine.run("stat -c '%U %G %a' /home/alice/data").output == "alice alice 640"


def test_the_payload_keeps_owners_and_modes(machine: VirtualMachine) -> None:
    said = machine.run("cd /etc/procseal; stat -c '%U %a %n' . *; cat *").output
    assert said == "attestor 700 .\nattestor 600 attestor.toml\n# of this boot"


def test_the_machine_reaches_its_service_and_nothing_else(
    machine: VirtualMachine, service: int
) -> None:
    got = machine.run("busybox wget -q -O - http://10.0.2.100/")
    assert got.output == "hello from the host"
    for address in (f"10.0.2.2:{service}", "10.0.2.100:81"):
        assert machine.run(f"busybox wget -q -T 3 -O - http://{address}/").code != 0


def test_the_tpm_is_the_attestors(machine: VirtualMachine) -> None:
    said = machine.run("stat -c '%U %G %a' /dev/tpm0 /dev/tpmrm0").output
    assert said == "attestor attestor 600\nattestor attestor 600"
    assert machine.run("grep ^tss: /etc/group").output == "tss:x:101:"


def test_the_attestors_code_belongs_to_root(machine: VirtualMachine) -> None:
    find = "find /usr -xdev \\( -not -user root -o -perm /022 -not -type l \\)"
    assert machine.run(find).output == ""


def test_a_failure_of_init_ends_the_boot_and_says_why(
    make_tpm: Callable[[], SoftwareTpm], tmp_path: Path
) -> None:
    broken = tmp_path / "payload"
    broken.write_bytes(b"not a tar archive".ljust(512, b"\xff"))
    with pytest.raises(Failed, match="FAILED: the payload does not unpack"):
        VirtualMachine.boot(tpm=make_tpm(), payload=broken)


def test_an_orderly_end_leaves_the_tpm_in_order(make_tpm: Callable[[], SoftwareTpm]) -> None:
    tpm = make_tpm()
    with VirtualMachine.boot(tpm=tpm, kernel="6.1"):
        assert tpm.is_running
    assert not tpm.is_running
