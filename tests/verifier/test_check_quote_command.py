"""The command check-quote."""

import json
from pathlib import Path

import pytest

from tests.simulated_keys import make_ak
from tests.verifier.quoted import LIST, Quoted, pem, quoted_list
from verifier.__main__ import main
from verifier.commands import MISUSED, NO, YES
from verifier.quote_files import QuoteFiles

Out = pytest.CaptureFixture[str]


class Folder:
    """The files of a quote in a folder, and the command over them."""

    def __init__(self, folder: Path, files: QuoteFiles) -> None:
        self.folder, self.files = folder, files
        self.flags: list[str] = []
        for name in ("message", "signature", "ak"):
            self.write(name, getattr(files, name))
        for name in ("ima_log", "event_log"):
            if getattr(files, name) is not None:
                path = self.write(name, getattr(files, name))
                self.flags += [f"--{name.replace('_', '-')}", str(path)]
        for (bank, number), value in files.values.items():
            self.flags += ["--pcr", f"{bank}:{number}={value.hex()}"]

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def run(self, *flags: str, nonce: str | None = None) -> int:
        paths = {name: str(self.folder / name) for name in ("message", "signature", "ak")}
        named = [part for name, path in paths.items() for part in (f"--{name}", path)]
        nonce = self.files.nonce.hex() if nonce is None else nonce
        return main(["check-quote", *named, "--nonce", nonce, *self.flags, *flags])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, quoted_list(LIST, more=(LIST[1],))[1])


def test_command_accepts(folder: Folder, capsys: Out) -> None:
    assert folder.run("--json") == YES
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["verdict", "findings", "quote", "ima"]
    assert answer["verdict"] == "accepted"
    assert answer["ima"] == {"entries": 5, "matched": 4, "violations": 0}
    assert [list(one) for one in answer["findings"]] == [["reason", "detail"]]
    assert folder.run() == YES
    told = capsys.readouterr().out
    assert told.startswith("accepted\n")
    assert "5, of which quoted 4" in told
    assert folder.run("--quiet") == YES
    assert capsys.readouterr().out == ""


def test_command_rejects(folder: Folder, capsys: Out) -> None:
    assert folder.run("--json", nonce="00" * 16) == NO
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "rejected"
    assert [one["reason"] for one in answer["findings"]] == ["quote.nonce-not-the-expected"]
    assert folder.run("--quiet", nonce="00" * 16) == NO
    told = capsys.readouterr().out
    assert told.startswith("refused  quote.nonce-not-the-expected")
    assert "next      quote again" in told


@pytest.mark.parametrize("nonce", ["", "0", "xyz", "00" * 65])
def test_command_wants_a_nonce(folder: Folder, capsys: Out, nonce: str) -> None:
    assert folder.run("--json", nonce=nonce) == MISUSED
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verdict"] == "malformed"
    assert "nonce" in captured.err


@pytest.mark.parametrize("junk", [b"junk", b""], ids=["junk", "nothing"])
@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("message", "message"),
        ("signature", "signature"),
        ("ak", "key"),
        ("ima_log", "measurement list"),
        ("event_log", "event log"),
    ],
)
def test_command_says_what_is_malformed(
    folder: Folder, capsys: Out, name: str, called: str, junk: bytes
) -> None:
    """Six files are given: which of them is it?"""
    path = folder.write(name, junk)
    folder.flags += ["--event-log", str(path)] if name == "event_log" else []
    assert folder.run("--json") == MISUSED
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["verdict"] == "malformed"
    assert answer["findings"][0]["detail"].startswith(f"{called}: ")
    assert captured.err.startswith(f"verifier: {called}: ")


@pytest.mark.parametrize("name", ["message", "signature", "ak", "ima_log"])
def test_command_reads_no_file_that_is_too_long(folder: Folder, capsys: Out, name: str) -> None:
    folder.write(name, bytes(1 << 17))
    assert folder.run() == MISUSED
    assert "expected" in capsys.readouterr().err


def test_command_without_a_file(folder: Folder) -> None:
    (folder.folder / "ak").unlink()
    assert folder.run() == MISUSED


def test_command_with_a_register_written_wrong(folder: Folder) -> None:
    assert folder.run("--pcr", "sha256:1") == MISUSED


def test_command_with_a_policy(folder: Folder, capsys: Out) -> None:
    policy = folder.write("policy", b'version = 1\nreject = ["ima-list.longer-than-quote"]\n')
    assert folder.run("--policy", str(policy)) == NO
    assert "refused  ima-list.longer-than-quote" in capsys.readouterr().out
    for text in (b"version = 1\n", b"\xff", b'version = 1\nreject = ["x"]\n'):
        policy.write_bytes(text)
        assert folder.run("--policy", str(policy)) == MISUSED


def test_command_with_a_pem_key(folder: Folder) -> None:
    folder.write("ak", pem(make_ak("quoted")[0].public_key()))
    assert folder.run() == NO
    assert folder.run("--ak-attributes-unchecked") == YES


def test_command_with_padded_sha1(tmp_path: Path) -> None:
    folder = Folder(tmp_path, quoted_list(LIST, padded=True)[1])
    assert folder.run() == NO
    assert folder.run("--padded-sha1") == YES


def test_command_with_sha1(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Quoted().bank("sha1").files())
    assert folder.run() == NO
    assert folder.run("--allow-sha1") == YES
