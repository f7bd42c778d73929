"""Debian packages fetched through an apt directory of our own; the machine's stays as it is."""

import re
from dataclasses import dataclass
from pathlib import Path

from swtpm.programs import Failed, run

RELEASE = "bookworm"
"""Debian 12: what goes into the virtual machine is built with its Python."""

CONFIGURATION = """\
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
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


@dataclass(frozen=True, slots=True)
class Apt:
    """An apt directory in which nothing is installed, so that every dependency is fetched."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> "Apt":
        """Make the directory, with the machine's own mirrors, and fetch the package lists."""
        for name in ("state/lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "state/status").touch()
        (root / "sources.list").write_text("".join(source + "\n" for source in _sources()))
        (root / "apt.conf").write_text(CONFIGURATION.format(root=root))
        apt = cls(root)
        apt._run("apt-get", "--error-on=any", "update")
        return apt

    def fetch_closure(self, packages: tuple[str, ...], into: Path) -> tuple[Path, ...]:
        """Fetch packages and everything that they depend on."""
        (into / "partial").mkdir(parents=True, exist_ok=True)
        archives = f"Dir::Cache::archives={into}"
        self._run("apt-get", "-o", archives, "--yes", "--download-only", "install", *packages)
        return tuple(sorted(into.glob("*.deb")))

    def fetch(self, package: str, version: str, into: Path) -> Path:
        """Fetch one package, in one version, without what it depends on."""
        into.mkdir(parents=True, exist_ok=True)
        self._run("apt-get", "download", f"{package}={version}", cwd=into)
        [archive] = into.glob(f"{package}_*.deb")
        return archive

    def versions(self, package: str) -> tuple[tuple[str, str], ...]:
        """Return (version, value of Depends) of a package, newest first."""
        text = self._run("apt-cache", "show", package)
        return tuple(
            (_field("Version", stanza), _field("Depends", stanza))
            for stanza in text.strip().split("\n\n")
        )

    def _run(self, program: str, *words: str, cwd: Path | None = None) -> str:
        return run(program, "-c", self.root / "apt.conf", *words, cwd=cwd).decode()


def _field(name: str, stanza: str) -> str:
    found = re.search(rf"^{name}: (.*)$", stanza, re.MULTILINE)
    return found.group(1) if found else ""


def _sources() -> tuple[str, ...]:
    """Return the lines of our sources.list, from what the machine itself is told to use."""
    wanted = "$(REPO_URI) $(RELEASE) $(CODENAME)"
    targets = run(
        "apt-get", "indextargets", "--format", wanted, "Created-By: Packages", "Component: main"
    )
    mirrors: dict[str, str] = {}
    for line in targets.decode().splitlines():
        uri, *names = line.split(" ")
        for name in names:
            if re.fullmatch(rf"{RELEASE}(-(updates|security|backports))?", name):
                mirrors.setdefault(name, uri)
    if RELEASE not in mirrors:
        raise Failed(f"apt knows no mirror of Debian 12 ({RELEASE}, main); add it to its sources")
    # Backports live on the release's own mirror, and are rarely configured.
    mirrors.setdefault(f"{RELEASE}-backports", mirrors[RELEASE])
    return tuple(f"deb [arch=amd64] {uri} {suite} main" for suite, uri in sorted(mirrors.items()))


def extract(archive: Path, tree: Path) -> None:
    """Unpack a package, keeping /bin, /lib and /sbin the links that they are on a Debian host."""
    contents = run("dpkg-deb", "--fsys-tarfile", archive)
    run("tar", "-C", tree, "-xp", "--no-same-owner", "--keep-directory-symlink", data=contents)
