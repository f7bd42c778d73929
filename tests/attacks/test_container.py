"""Attacks from within containers, and around them, on the kernels that nodes have.

The containers are crun's, their image a directory of the machine's disk, and the attestor's
socket comes into them as a bind mount. Of the image's two programs one is a workload.
"""

import json
from collections.abc import Iterator

import pytest

from credential import wit
from swtpm.kernels import Kernel
from tests.attacks.machine import (
    ATTACHED_MODE,
    AUDIENCE,
    PATH,
    SOCKET,
    UID,
    USER,
    Machine,
    MachinePuppet,
    sha256,
)
from verifier.policy import ReferenceSet
from verifier.reference import encode_reference

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(400)]

IMAGE = "/srv/shop"
OVERLAID = "/srv/overlaid"
BROKER = "/usr/bin/broker"
HELPER = "/usr/bin/helper"
ID = "spiffe://example.org/broker"
WORKLOAD = f"""
version = 1
id = "{ID}"
executable = {{ set = "shop-2.1", file = "usr/bin/broker" }}
mapped = ["shop-2.1"]
container = {{ set = "shop-2.1", cgroup = "/shop/*" }}
user = "{USER}"
minimum = "lab"
[[use]]
audience = "{AUDIENCE}"
scopes = ["post"]
"""

SIBLING = "another program of the same user"
ANYBODY = "an ordinary user"
ROOT = "root on the node"
IDENTITY = "the identity"


def bundle(root: str, cgroup: str) -> bytes:
    """Return what crun is told (OCI runtime specification 1.0.2, config.md)."""
    spec = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": UID, "gid": UID},
            "args": [BROKER],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": root, "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": str(SOCKET.parent),
                "type": "bind",
                "source": str(SOCKET.parent),
                "options": ["bind"],
            },
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": one} for one in ("pid", "mount", "ipc", "uts", "network")],
        },
    }
    return json.dumps(spec).encode()


class Contained(MachinePuppet):
    """A puppet in a container of its own: the container's first process."""

    def __init__(self, machine: Machine, *, root: str = IMAGE, cgroup: str = "/shop") -> None:
        self.machine = machine
        self.container = f"c{next(self.names)}"
        place = f"/srv/{self.container}"
        machine.run(f"mkdir -p {place}")
        machine.put(f"{place}/config.json", bundle(root, f"{cgroup}/{self.container}"))
        run = f"/usr/bin/crun run --bundle {place}"
        super().__init__(machine.world, path=self.container, user="root", prefix=run)

    def end(self) -> None:
        # `crun run` ends with it, and tidies up.
        self.world.machine.run(f"crun kill {self.container} KILL")

    def beside(self, path: str) -> MachinePuppet:
        """Start another program in the same container."""
        prefix = f"/usr/bin/crun exec --user {UID}:{UID} {self.container}"
        return MachinePuppet(self.world, path=path, user="root", prefix=prefix)


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Machine:
    """The machine, with an image in it that the verifier knows."""
    programs = {
        BROKER: machine.programs.puppet + bytes(2),
        HELPER: machine.programs.puppet + bytes(3),
    }
    files = {path.lstrip("/"): (sha256(data),) for path, data in programs.items()}
    modules = Kernel.at(machine.kernel).modules("overlay")
    loaded = {f"{name}.ko": (sha256(module),) for name, module in modules}
    machine.put_documents(
        "reference",
        encode_reference(ReferenceSet(name="shop-2.1", files=files)),
        encode_reference(ReferenceSet(name="overlay", files=loaded)),
    )
    machine.put_documents("workload", WORKLOAD)
    machine.run(f"mkdir -p {IMAGE}/usr/bin {IMAGE}/proc {IMAGE}/dev {IMAGE}{SOCKET.parent}")
    for path, data in programs.items():
        machine.put(f"{IMAGE}{path}", data)
    return machine


@pytest.fixture
def broker(shop: Machine) -> Iterator[Contained]:
    with Contained(shop) as one:
        yield one


@pytest.mark.attack(number=113, attacker=SIBLING, asset=IDENTITY, bindings=[ATTACHED_MODE])
def test_113_two_programs_in_one_container(shop: Machine, broker: Contained) -> None:
    broker.obtain_granted(ID)
    assert broker.is_proven()
    with broker.beside(HELPER) as helper:
        assert helper.why(ID) == ["process.executable-unknown"]
    assert broker.is_proven()
    assert shop.is_accepted()


@pytest.mark.attack(number=113, attacker=SIBLING, asset=IDENTITY, bindings=[ATTACHED_MODE])
def test_113_the_program_outside_of_the_container(shop: Machine, broker: Contained) -> None:
    broker.obtain_granted(ID)
    with shop.puppet(f"{IMAGE}{BROKER}") as outside:
        assert outside.why(ID) == ["process.cgroup-not-the-containers"]


@pytest.mark.attack(number=113, attacker=SIBLING, asset=IDENTITY, bindings=[ATTACHED_MODE])
def test_113_the_same_image_in_another_cgroup(shop: Machine) -> None:
    with Contained(shop, cgroup="/shop/below") as other:
        assert other.why(ID) == ["process.cgroup-not-the-containers"]


@pytest.mark.attack(number=81, attacker=ANYBODY, asset=IDENTITY)
def test_081_a_pid_number_of_another_namespace(shop: Machine, broker: Contained) -> None:
    """In there it is number 1, as is the first process of any container, and init outside."""
    token = broker.obtain_granted(ID).token
    assert broker.say("pid") == "1"
    rows = shop.world.operator("ledger", "tail", "-n", "100")
    jti = wit.read_unverified(token).jti
    (issued,) = (one["body"] for one in rows if one["body"].get("jti") == jti)
    spaces = shop.run(f"stat -Lc %i /proc/{issued['pid']}/ns/user /proc/{issued['pid']}/ns/pid")
    own = shop.run("stat -Lc %i /proc/self/ns/pid /proc/self/ns/mnt").split()
    assert [str(one) for one in issued["namespaces"][:2]] == spaces.split()
    assert not {str(one) for one in issued["namespaces"]} & set(own)
    assert issued["pid"] != 1
    assert issued["cgroup"] == f"/shop/{broker.container}"


@pytest.mark.attack(number=71, attacker=ANYBODY, asset=IDENTITY, bindings=[ATTACHED_MODE])
def test_071_a_golden_path_in_a_mount_namespace_of_ones_own(shop: Machine) -> None:
    """The kernel's list has the golden path with his digest; the path still counts for its own."""
    impostor = "/home/payments/bound"
    shop.put(impostor, shop.programs.puppet + bytes(4), owner=USER)
    mount = f'unshare -Urm sh -c "mount --bind {impostor} {PATH} && exec {PATH}"'
    with shop.puppet(mount) as spoofing:
        assert shop.run(f"readlink /proc/{spoofing.pid}/exe").strip() == PATH
        assert "process.executable-unknown" in spoofing.why("spiffe://example.org/puppet")
    with shop.puppet() as golden:
        golden.obtain_granted()
    assert shop.is_accepted()


@pytest.mark.attack(number=72, attacker=ROOT, asset=IDENTITY, bindings=[ATTACHED_MODE])
def test_072_an_overlay_that_is_modified_behind(shop: Machine) -> None:
    for name, module in Kernel.at(shop.kernel).modules("overlay"):
        shop.world.machine.put(f"/srv/{name}.ko", module, owner="root", mode=0o644)
        shop.run(f"insmod /srv/{name}.ko")
    layers = "/srv/layers"
    shop.run(
        f"mkdir -p {layers}/upper {layers}/work {OVERLAID} && mount -t overlay overlay"
        f" -o lowerdir={IMAGE},upperdir={layers}/upper,workdir={layers}/work {OVERLAID}"
    )
    with Contained(shop, root=OVERLAID) as overlaid:
        assert set(overlaid.why(ID)) == {"process.file-on-unmeasured-file-system"}
        shop.run(f"mkdir -p {layers}/upper/usr/bin")
        shop.put(f"{layers}/upper{BROKER}", shop.programs.puppet + bytes(5))
        assert set(overlaid.why(ID)) == {"process.file-on-unmeasured-file-system"}
    assert shop.is_accepted()
