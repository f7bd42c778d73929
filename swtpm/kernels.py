"""Debian's kernels for virtual machines: the two of the set-up, and all others on the mirror.

The set-up's are named by their series and come from Debian 12: `6.1` is the release's, which
lacks SO_PEERPIDFD and pidfs, `6.12` that of its backports. Every other kernel of every suite that
the mirror has is named as its package is (`7.2.9+deb13`) and fetched when somebody asks for it.
"""

import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from swtpm.packages import RELEASED, Apt, extract
from swtpm.programs import BUILD, Failed, alone, say

DEFAULT = "6.12"
NAMES = (DEFAULT, "6.1")
"""Those that set-up fetches."""

META = "linux-image-cloud-amd64"
"""The package that depends on the newest concrete kernel package."""

CONCRETE = r"linux-image-(\d\S*)-cloud-amd64"

PARTS = r"linux-(?:binary|modules)-\d\S*-cloud-amd64"
"""Packages of which newer kernels consist; the one named linux-image is empty then."""

NEEDED = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console")
"""Modules without which there is no disk, network or line to the host; some are built in."""

FETCH_TRIES = 3
"""A suite that changes may lack by now what its list offered."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel package, unpacked."""

    name: str
    root: Path

    @classmethod
    def at(cls, name: str, build: Path = BUILD) -> "Kernel":
        """Return a kernel that is there already."""
        kernel = cls(name, build / "kernels" / name)
        if not kernel.stamp.exists():
            raise Failed(f"kernel {name} is not there yet; run: {_how_to_fetch(name)}")
        return kernel

    @property
    def stamp(self) -> Path:
        """The file that says that the kernel is whole."""
        return self.root / "complete"

    @property
    def image(self) -> Path:
        """What qemu boots."""
        [image] = [*self.root.glob("boot/vmlinuz-*"), *self.root.glob("usr/lib/modules/*/vmlinuz")]
        return image

    @property
    def release(self) -> str:
        """What it calls itself (uname -r)."""
        name = self.image.name.removeprefix("vmlinuz-")
        return self.image.parent.name if name == self.image.name else name

    @property
    def initramfs(self) -> Path:
        """The first file system, made by `swtpm.initramfs`."""
        return self.root / "initramfs.cpio"

    def modules(self, *names: str) -> tuple[tuple[str, bytes], ...]:
        """Return modules, each after those it depends on; none for what is built in."""
        files = {_stem(path): path for path in self.root.glob("**/modules/**/*.ko*")}
        ordered: dict[str, bytes] = {}
        for name in names:
            _add(name, files, ordered)
        return tuple(ordered.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A kernel that the mirror has."""

    name: str
    package: str
    version: str
    suite: str

    @property
    def is_released(self) -> bool:
        """Whether it is of a release of Debian, its updates or its backports."""
        return self.suite.partition("-")[0] in RELEASED

    def is_fetched(self, build: Path = BUILD) -> bool:
        """Whether it is there already."""
        return Kernel(self.name, build / "kernels" / self.name).stamp.exists()

    @property
    def series(self) -> tuple[int, ...]:
        """The first two numbers."""
        return self.numbers[:2]

    @property
    def rank(self) -> tuple[object, ...]:
        """What orders kernels: by series, the newest released one of each last."""
        return (self.series, self.is_released, self.numbers)

    def precedes(self, other: "Offer") -> bool:
        """Whether this one of two suites' is taken: a released one, then the newer."""
        return (self.is_released, self.numbers) > (other.is_released, other.numbers)

    @property
    def numbers(self) -> tuple[int, ...]:
        """All numbers of the version."""
        return tuple(int(number) for number in re.findall(r"\d+", self.version))


def ima_template(name: str) -> str:
    """Return the words of a kernel command line that choose a template, or fields for one."""
    return f"ima_template_fmt={name}" if "|" in name else f"ima_template={name}"


def offers(build: Path = BUILD, *, is_refreshed: bool = True) -> tuple[Offer, ...]:
    """Return every kernel on the mirror, in the order of `Offer.rank`."""
    return tuple(_read_offers(_lists(build, is_refreshed=is_refreshed)))


def newest_of_each_series(some: Sequence[Offer]) -> tuple[Offer, ...]:
    """Return one kernel of each series, a released one where there is one."""
    ranked = sorted(some, key=lambda one: one.rank)
    return tuple([*group][-1] for _, group in groupby(ranked, key=lambda one: one.series))


def choose(name: str, some: Sequence[Offer]) -> Offer:
    """Return the kernel of that name, or the newest of the series of that name."""
    for one in some:
        if one.name == name:
            return one
    for one in newest_of_each_series(some):
        if ".".join(map(str, one.series)) == name:
            return one
    known = ", ".join(".".join(map(str, one.series)) for one in newest_of_each_series(some))
    raise Failed(
        f"no kernel {name!r}; set-up has {', '.join(NAMES)}, the mirror some of each of {known}; "
        "for their names, run: python -m swtpm kernels"
    )


def fetch(name: str, apt: Apt, build: Path = BUILD) -> Kernel:
    """Fetch and unpack a kernel of the set-up."""
    package, version = _newest(name, apt)
    return _unpack(name, package, version, apt, build)


def fetch_offered(name: str, build: Path = BUILD) -> Kernel:
    """Fetch and unpack any kernel of the mirror; return it at once where it is there."""
    for attempt in range(1, FETCH_TRIES + 1):
        if Kernel(name, build / "kernels" / name).stamp.exists():
            break
        apt = _lists(build, is_refreshed=attempt > 1)
        try:
            offer = choose(name, [*_read_offers(apt)])
            return _unpack(offer.name, offer.package, offer.version, apt, build)
        except Failed as failure:
            if attempt == FETCH_TRIES:
                raise
            say(f"kernel {name}: {failure}; asking the mirror again")
    return Kernel.at(name, build)


def _how_to_fetch(name: str) -> str:
    return "make setup" if name in NAMES else f"python -m swtpm fetch --kernel {name}"


def _lists(build: Path, *, is_refreshed: bool) -> Apt:
    """Return package lists of every suite, new ones or those that were fetched before."""
    root = build / "apt-of-every-suite"
    if not is_refreshed and (root / "apt.conf").exists():
        return Apt(root)
    say("package lists of every suite on the mirror (60 MB the first time)")
    with alone(root):
        return Apt.of_every_suite(root)


def _read_offers(apt: Apt) -> Iterator[Offer]:
    """Yield each kernel that is whole on the mirror, once, of the first of its suites."""
    everything = apt.offers(rf"{CONCRETE}|{PARTS}")
    there = {(package, version) for package, version, _ in everything}
    found: dict[str, Offer] = {}
    for package, version, suite in everything:
        if not re.fullmatch(CONCRETE, package):
            continue
        name = package.removeprefix("linux-image-").removesuffix("-cloud-amd64")
        one = Offer(name=name, package=package, version=version, suite=suite)
        if name not in found or one.precedes(found[name]):
            found[name] = one
    names = (one.package for one in found.values())
    depends = {(package, version): text for package, version, text in apt.depends(*names)}
    parted: list[str] = []
    for one in sorted(found.values(), key=lambda one: one.rank):
        needs = depends.get((one.package, one.version), "")
        if re.search(CONCRETE, needs):
            continue  # it names another image: the meta package of a series
        if there.issuperset(_parts(needs)):
            yield one
        else:
            parted.append(one.name)
    if parted:
        say(f"no longer whole on the mirror: {', '.join(parted)}")


def _parts(depends: str) -> list[tuple[str, str]]:
    """Return (package, version) of what a kernel consists of besides its own package."""
    return re.findall(rf"({PARTS}) \(= (\S+?)\)", depends)


def _unpack(name: str, package: str, version: str, apt: Apt, build: Path) -> Kernel:
    kernel = Kernel(name, build / "kernels" / name)
    if kernel.stamp.exists():
        return kernel
    say(f"kernel {name}: {package} {version}")
    kernel.root.mkdir(parents=True, exist_ok=True)
    parts = _parts(dict(apt.versions(package)).get(version, ""))
    for part, its_version in ((package, version), *parts):
        archive = apt.fetch(part, its_version, kernel.root / "package")
        extract(archive, kernel.root)
        archive.unlink()
    kernel.stamp.write_text(f"{package} {version}\n")
    return kernel


def _newest(name: str, apt: Apt) -> tuple[str, str]:
    """Return (concrete package, version) of the newest kernel of a series."""
    for version, depends in apt.versions(META):
        found = re.fullmatch(r"(linux-image-\S+) \(= (\S+)\)", depends)
        if version.startswith(f"{name}.") and found:
            return found.group(1), found.group(2)
    raise Failed(f"the mirror has no kernel {name}: is bookworm-backports on it?")


def _stem(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _add(name: str, files: dict[str, Path], ordered: dict[str, bytes]) -> None:
    """Add a module after its dependencies; one without a file is built in."""
    if name in ordered or name not in files:
        return
    content = files[name].read_bytes()
    if files[name].suffix == ".xz":
        content = lzma.decompress(content)
    found = re.search(rb"\0depends=([^\0]*)\0", content)
    for dependency in found.group(1).decode().split(",") if found else ():
        _add(dependency.replace("-", "_"), files, ordered)
    ordered[name] = content
