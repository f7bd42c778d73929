"""Commands that make a verifier, and that are one."""
# ruff: noqa: PLC0415 - a command imports what it needs: asking a verifier needs no web server

import asyncio
import logging
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from verifier.commands import YES, Arguments, Commands, say, tell
from verifier.config import Config


def add_server(commands: Commands) -> None:
    """Add init, ca, check-config and serve."""
    init = commands.add("init", _init, "make keys, a CA and a configuration")
    init.add_argument("directory", type=Path, metavar="DIR")
    init.add_argument("--state", type=Path, metavar="DIR", help="default: state in DIR")
    init.add_argument("--trust-domain", default="example.org", metavar="NAME")
    init.add_argument("--issuer", metavar="URL", help="default: https, the first host, the port")
    init.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS")
    init.add_argument("--port", type=int, default=8443)
    init.add_argument("--host", action="append", metavar="NAME", help="of the certificate")
    authority = commands.group("ca", "TLS certificates by the CA that `init` made")
    issue = authority.add("issue", _ca_issue, "make a TLS server's key and certificate")
    issue.add_argument("name")
    issue.add_argument("--dir", type=Path, required=True, metavar="DIR", help="where the CA is")
    issue.add_argument("--to", type=Path, metavar="DIR", help="default: where the CA is")
    issue.add_argument("--host", action="append", metavar="NAME", help="default: the name")
    commands.add("check-config", _check_config, "say whether `serve` would start")
    commands.add("serve", _serve, "serve until SIGTERM")


def _init(arguments: Arguments) -> int:
    from verifier.init import Choices, initialise

    directory: Path = arguments.directory
    hosts = tuple(arguments.host or ("localhost", "127.0.0.1", socket.gethostname()))
    choices = Choices(
        directory=directory,
        state=arguments.state or directory / "state",
        trust_domain=arguments.trust_domain,
        issuer=arguments.issuer or f"https://{hosts[0]}:{arguments.port}",
        listen=arguments.listen,
        port=arguments.port,
        hosts=hosts,
    )
    files = initialise(choices, now=datetime.now(UTC))
    rows = [{"file": str(path)} for path in files]
    tell(arguments, rows, "file")
    say(arguments, f"next: verifier serve --config {files[0]}")
    return YES


def _ca_issue(arguments: Arguments) -> int:
    from verifier.init import issue_certificate

    hosts = tuple(arguments.host or (arguments.name,))
    target = arguments.to or arguments.dir
    now = datetime.now(UTC)
    files = issue_certificate(
        arguments.name, hosts, directory=arguments.dir, target=target, now=now
    )
    return tell(arguments, [{"file": str(path)} for path in files], "file")


def _check_config(arguments: Arguments) -> int:
    from verifier.doors.serving import Doors

    config = Config.load(arguments.config)
    Doors.build(config).service.store.close()
    return tell(arguments, {"config": str(arguments.config), "verdict": "ok"}, "config", "verdict")


def _serve(arguments: Arguments) -> int:
    from credential import jws
    from verifier.doors.serving import Doors, serve

    jws.load()
    level = logging.WARNING if arguments.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    doors = Doors.build(Config.load(arguments.config))

    def ready(url: str) -> None:
        print(f"verifier: listens on {url}", file=sys.stderr, flush=True)

    asyncio.run(serve(doors, ready=ready))
    return YES
