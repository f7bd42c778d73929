"""Debian packages fetched through an apt directory of our own; the machine's stays as it is."""

import re
from dataclasses import dataclass
from pathlib import Path

from swtpm.programs import Failed, run, say

RELEASE = "bookworm"
"""Debian 12: what goes into the virtual machine is built with its Python."""

RELEASED = ("bullseye", RELEASE, "trixie")
"""Suites of Debian 11 to 13, each of which may have others beside it."""

UNRELEASED = ("forky", "sid", "experimental")
"""Suites that change under one's hands: what they offer may be gone, or not boot."""

BESIDE = ("-updates", "-security", "-backports")
"""Ends of the names of the suites that a release may have beside its own."""

CONFIGURATION = """\
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
"""


class Gone(Failed):
    """The mirror lists a package of which it no longer has the file."""


@dataclass(frozen=True, slots=True)
class Apt:
    """An apt directory in which nothing is installed, so that every dependency is fetched."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> "Apt":
        """Make the directory, with the machine's own mirrors, and fetch the package lists."""
        return cls._updated(root, _mirrors(), "--error-on=any")

    @classmethod
    def of_every_suite(cls, root: Path) -> "Apt":
        """Make one that knows each suite, released or not, that the mirrors have."""
        try:
            return cls._updated(root, _mirrors_of_every_suite())
        except Failed as failure:  # of a suite that a mirror lacks; the others' lists are there
            missing = re.findall(r"E: The repository '\S+ (\S+) Release'", str(failure))
            if not missing:
                raise
            say(f"the mirror has no {', '.join(missing)}")
        return cls(root)

    @classmethod
    def _updated(cls, root: Path, mirrors: dict[str, str], *options: str) -> "Apt":
        for name in ("state/lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "state/status").touch()
        sources = (f"deb [arch=amd64] {uri} {suite} main\n" for suite, uri in mirrors.items())
        (root / "sources.list").write_text("".join(sources))
        (root / "apt.conf").write_text(CONFIGURATION.format(root=root))
        apt = cls(root)
        apt._run("apt-get", *options, "update")
        return apt

    def fetch_closure(self, packages: tuple[str, ...], into: Path) -> tuple[Path, ...]:
        """Fetch packages and everything that they depend on."""
        (into / "partial").mkdir(parents=True, exist_ok=True)
        archives = f"Dir::Cache::archives={into}"
        self._run("apt-get", "-o", archives, "--yes", "--download-only", "install", *packages)
        return tuple(sorted(into.glob("*.deb")))

    def fetch(self, package: str, version: str, into: Path) -> Path:
        """Fetch one package, in one version, without what it depends on; raise Gone on a 404."""
        into.mkdir(parents=True, exist_ok=True)
        try:
            self._run("apt-get", "download", f"{package}={version}", cwd=into)
        except Failed as failure:
            if " 404 " not in str(failure):
                raise
            raise Gone(f"the mirror lists {package} {version} and has no such file") from failure
        [archive] = into.glob(f"{package}_*.deb")
        return archive

    def versions(self, package: str) -> tuple[tuple[str, str], ...]:
        """Return (version, value of Depends) of a package, newest first."""
        return tuple((version, depends) for _, version, depends in self.depends(package))

    def depends(self, *packages: str) -> tuple[tuple[str, str, str], ...]:
        """Return (package, version, value of Depends) of each version of packages."""
        if not packages:
            return ()
        return tuple(
            (_field("Package", stanza), _field("Version", stanza), _field("Depends", stanza))
            for stanza in self._run("apt-cache", "show", *packages).strip().split("\n\n")
        )

    def offers(self, pattern: str) -> tuple[tuple[str, str, str], ...]:
        """Return (package, version, suite) of packages whose whole name fits, newest first."""
        names = self._run("apt-cache", "pkgnames").split()
        wanted = [name for name in names if re.fullmatch(pattern, name)]
        lines = self._run("apt-cache", "madison", *wanted).splitlines() if wanted else ()
        return tuple(
            (package, version, source.split()[1].partition("/")[0])
            for package, version, source in (
                [word.strip() for word in line.split("|")] for line in lines
            )
        )

    def _run(self, program: str, *words: str, cwd: Path | None = None) -> str:
        return run(program, "-c", self.root / "apt.conf", *words, cwd=cwd).decode()


def _field(name: str, stanza: str) -> str:
    found = re.search(rf"^{name}: (.*)$", stanza, re.MULTILINE)
    return found.group(1) if found else ""


def _mirrors() -> dict[str, str]:
    """Return the URI of each suite of Debian 12, from what the machine itself is told to use."""
    wanted = "$(REPO_URI) $(RELEASE) $(CODENAME)"
    targets = run(
        "apt-get", "indextargets", "--format", wanted, "Created-By: Packages", "Component: main"
    )
    mirrors: dict[str, str] = {}
    for line in targets.decode().splitlines():
        uri, *names = line.split(" ")
        for name in names:
            if name in (RELEASE, *(RELEASE + end for end in BESIDE)):
                mirrors.setdefault(name, uri)
    if RELEASE not in mirrors:
        raise Failed(f"apt knows no mirror of Debian 12 ({RELEASE}, main); add it to its sources")
    # Backports live on the release's own mirror, and are rarely configured.
    mirrors.setdefault(f"{RELEASE}-backports", mirrors[RELEASE])
    return dict(sorted(mirrors.items()))


def _mirrors_of_every_suite() -> dict[str, str]:
    """Return the same of each suite there may be: mirrors have them beside one another."""
    ours = _mirrors()
    others = {
        suite.replace(RELEASE, release): uri for release in RELEASED for suite, uri in ours.items()
    }
    return others | dict.fromkeys(UNRELEASED, ours[RELEASE])


def extract(archive: Path, tree: Path) -> None:
    """Unpack a package, keeping /bin, /lib and /sbin the links that they are on a Debian host."""
    contents = run("dpkg-deb", "--fsys-tarfile", archive)
    run("tar", "-C", tree, "-xp", "--no-same-owner", "--keep-directory-symlink", data=contents)
