"""`engine serve`: answer requests with a registered model. Serving reads the model package and the state, never `conf/`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.commands.arguments import Parser, project_of, say
from engine.commands.served import Wanted, wanted_model
from engine.errors import UnavailableError, UsageError
from engine.records import ServeStart

if TYPE_CHECKING:
    from engine.serve.server import ServePlan
    from engine.serve.workers import Started

EPILOG = """\
  engine serve pipeline=flights
  engine serve model=flights@champion --port 8080 --workers 2
  curl -s localhost:8000/predict -d '{"rows": [{…}]}'

Routes: POST /predict /events /feedback; GET /healthz /readyz /metrics /openapi.json and / for people. A new holder of the
alias is taken over without a failed request. SIGTERM finishes what has begun."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(argv: Sequence[str]) -> int:
    """Serve until told to stop."""
    parser = Parser("serve", "Answer requests with a registered model.", epilog=EPILOG)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="where to listen (default: this machine only)")
    add("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    add("--workers", type=int, default=1, help="processes behind one socket")
    add(
        "--token",
        metavar="REF",
        help="what callers must bear, as in '${secret:SERVE_TOKEN}'; needed beyond this machine",
    )
    add("--state", metavar="URL", help="the state database (default: the project's)")
    add("--artefacts", metavar="DIR", help="the artefact store (default: the project's)")
    add("--online", metavar="URL", help="the online state (default: the project's)")
    add("--max-body", type=int, default=8 << 20, metavar="BYTES", help="of one request (default: 8 MiB)")
    add("--max-rows", type=int, default=10_000, metavar="N", help="of one request (default: 10000)")
    add("--poll", type=float, default=0.5, metavar="SECONDS", help="how often to look who holds the alias")
    add("--json", action="store_true", help="say on stdout, in one line of JSON, where it answers and with what")
    arguments, rest = parser.parse_known_args(argv)
    _check(arguments)
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # small batches on several threads stall for milliseconds
    return _serve(arguments, wanted_model(project_of(arguments), rest))


def _check(arguments: argparse.Namespace) -> None:
    from engine.config.secrets import is_secret  # noqa: PLC0415 - start-up time of --help

    if arguments.host not in LOOPBACK and not arguments.token:
        raise UsageError(
            f"--host {arguments.host} can be reached from elsewhere, so callers need a token",
            hint="export SERVE_TOKEN=…, and say --token '${secret:SERVE_TOKEN}'",
        )
    if arguments.token and not is_secret(arguments.token):
        raise UsageError(
            "--token is a reference, as in '${secret:SERVE_TOKEN}': what stands on a command line is seen by everybody"
        )
    if not 0 <= arguments.port <= 65535 or arguments.workers < 1 or min(arguments.max_body, arguments.max_rows) < 1:
        raise UsageError("--port is 0 to 65535; --workers, --max-body and --max-rows are at least 1")
    if arguments.poll <= 0:
        raise UsageError("--poll is a number of seconds above 0")


def _serve(arguments: argparse.Namespace, wanted: Wanted) -> int:
    from engine.serve.workers import serve_here, serve_workers  # noqa: PLC0415 - start-up time of --help

    plan = _plan(arguments, wanted)
    for words in wanted.warnings:
        say(f"note: {words}")
    listening = _listen(arguments.host, arguments.port)

    def started(worker: Started) -> None:
        host, port = listening.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        say(
            f"{worker.model} answers at {url} ({arguments.workers} worker{'s' * (arguments.workers > 1)}); SIGTERM ends it"
        )
        if arguments.json:
            _print_line(ServeStart(url=url, model=worker.model, program=worker.program, pid=os.getpid(),
                                   workers=arguments.workers, predictions=str(plan.predictions / plan.model)))  # fmt: skip

    with listening:
        if arguments.workers == 1:
            return serve_here(plan, listening, started)
        return serve_workers(plan, listening, arguments.workers, started)


def _plan(arguments: argparse.Namespace, wanted: Wanted) -> ServePlan:
    from pathlib import Path  # noqa: PLC0415 - start-up time of --help

    from engine.serve.app import Limits  # noqa: PLC0415
    from engine.serve.server import ServePlan  # noqa: PLC0415

    project = wanted.project
    return ServePlan(
        root=project.root,
        home=project.home,
        model=wanted.model,
        alias=wanted.alias,
        version=wanted.version,
        database=project.locate(arguments.state or wanted.stores.state, "state.db"),
        artefacts=Path(project.locate(arguments.artefacts or wanted.stores.artefacts, "artefacts")),
        online=project.locate(arguments.online or wanted.online, "online"),
        plugins=wanted.plugins,
        token=arguments.token,
        poll_seconds=arguments.poll,
        limits=Limits(body=arguments.max_body, rows=arguments.max_rows),
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another --port; 0 takes a free one"
        ) from error


def _print_line(start: ServeStart) -> None:
    sys.stdout.write(msgspec.json.encode(start).decode() + "\n")
    sys.stdout.flush()
