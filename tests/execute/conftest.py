"""Bodies for tests, written as a module of their own because children import them, and small plans over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from engine.contracts import Place
from engine.execute.pool import POOL
from engine.execute.request import ExecuteRequest
from engine.execute.run import execute
from engine.plan.model import ExecutionPlan, PlanNode
from engine.records import Event, NodeResult
from engine.stores.artefacts import LocalArtefactStore

BODIES = '''
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path
from engine.errors import DataError, EngineError, UnavailableError


def note_call(work):
    with (work.place.root / "calls").open("a") as file:
        file.write(work.node + "\\n")
    return (work.place.root / "calls").read_text().split().count(work.node)


def text(work):
    """Join a word and the inputs; `same` hides the settings from the output, as an early cutoff needs."""
    note_call(work)
    parts = [(work.inputs[role].path / "text").read_text() for role in sorted(work.inputs)]
    word = "" if work.settings.get("same") else str(work.settings.get("word", ""))
    (work.out / "text").write_text("(" + word + "".join(parts) + ")")
    work.progress("writing", 7, 0.5)
    return {"rows": 7, "pid": os.getpid(), "threads": work.place.threads, "cap": os.environ["POLARS_MAX_THREADS"]}


def fail(work):
    calls = note_call(work)
    if calls > work.settings.get("times", 10**9):
        return text(work)
    (work.out / "half").write_text("never seen")
    print("last words")
    match work.settings["how"]:
        case "data": raise DataError("txns.csv:7: amt is 'x'", hint="correct the row")
        case "away": raise UnavailableError("no server", hint="start it")
        case "bug": {}["missing"]
        case "kill": os.kill(os.getpid(), signal.SIGKILL)
        case "segv": ctypes.string_at(0)
        case "exit": os._exit(3)
        case "sysexit": sys.exit(4)
        case "sleep": time.sleep(60)
        case "notes": return {"rows": float("nan")}
        case "memory": raise MemoryError
        case "full": raise OSError(28, "No space left on device")
        case "wrapped":
            try:
                int("x")
            except ValueError as error:
                raise EngineError("cannot count") from error


def slow(work):
    """Take a while, with a grandchild, so that what is left behind can be counted; a file may say how long."""
    note_call(work)
    said = work.place.root / "seconds"
    seconds = float(said.read_text()) if said.exists() else work.settings.get("seconds", 60)
    grandchild = subprocess.Popen(["sleep", str(seconds)])
    with (work.place.root / "pids").open("a") as file:
        file.write(f"{os.getpid()} {grandchild.pid}\\n")
    (work.out / "text").write_text(work.node)
    grandchild.wait()
    return {}


def odd(work):
    """Do what a body should not."""
    match work.settings["how"]:
        case "big": return {"size": len(work.settings["text"]), "echo": work.settings["text"]}
        case "flood":
            for index in range(2000): print("line", index, "x" * 100)
            for index in range(5000): work.progress("counting", index, index / 5000)
        case "binary": os.write(2, b"\\xff\\xfe" + b"y" * 10000 + b"\\n")
        case "steal":
            os.write(1, b"not a frame\\n")
            print("input:", sys.stdin.read())
        case "daemon":
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            if work.settings.get("die"): os.kill(os.getpid(), signal.SIGKILL)
        case "threads":
            import threading
            many = [threading.Thread(target=work.progress, args=(f"m{i}", i, None)) for i in range(20)]
            [one.start() for one in many]
            [one.join() for one in many]
        case "link": (work.out / "link").symlink_to("/etc/passwd")
        case "stdlib": return {"frozen": work.settings["deep"]}
    return {}


def whole(work):
    """Have parts done elsewhere."""
    note_call(work)
    asked = [{**work.settings, "number": number} for number in range(work.settings.get("count", 5))]
    found = work.parts.run(work, "plumbline_test_bodies:piece", asked)
    (work.out / "text").write_text(" ".join(str(part["number"]) for part in found))
    return {"pids": sorted({part["pid"] for part in found} - {os.getpid()}), "beside": work.parts.beside, "own": os.getpid()}


def piece(work):
    """One part; `meet` waits until another one runs beside it."""
    number, how = work.settings["number"], work.settings.get("how")
    marks = work.place.root / "marks"
    marks.mkdir(exist_ok=True)
    if how == "meet":
        (marks / str(number)).touch()
        while len(list(marks.iterdir())) < 2:
            time.sleep(0.01)
    if how == "data" and number == 1:
        raise DataError("users.csv:3: no key", hint="correct the row")
    if how == "kill" and number == 1 and not (marks / "killed").exists():
        (marks / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "kill always" and number == 1:
        note_call(work)
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "again":
        return {"number": len(work.parts.run(work, "plumbline_test_bodies:piece", [{"number": 1}, {"number": 2}])), "pid": 0}
    if how == "slow" or how == "data":
        slow(work)
    print("part", number)
    return {"number": number, "pid": os.getpid(), "threads": work.place.threads}


def nap(work):
    note_call(work)
    time.sleep(work.settings.get("seconds", 0.2))
    while (work.place.root / "hold").exists():
        time.sleep(0.01)
    (work.out / "text").write_text(work.node)
    return {}
'''
KINDS = {kind: f"plumbline_test_bodies:{kind}" for kind in ("text", "fail", "slow", "nap", "odd", "whole")}


@dataclass
class Listener:
    """Keeps events."""

    events: list[Event] = field(default_factory=list)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def messages(self, level: str) -> list[str]:
        return [event.message for event in self.events if event.event == "log" and event.level == level]


@dataclass(repr=False)  # a property test prints its arguments, and what was heard is long
class Bench:
    """A project, a store, and what happened."""

    root: Path
    store: LocalArtefactStore
    heard: Listener = field(default_factory=Listener)
    request: ExecuteRequest = field(default_factory=lambda: ExecuteRequest(bodies=KINDS, threads=1))

    @property
    def place(self) -> Place:
        return Place(self.root, "", str(self.store.root), (), 1, "7")

    def run(self, *nodes: PlanNode, **changes: Any) -> dict[str, NodeResult]:
        plan = ExecutionPlan(pipeline="p", nodes=nodes)
        results = execute(plan, replace(self.request, **changes), self.place, self.store, self.heard)
        assert [result.name for result in results] == [node.name for node in nodes]
        return {result.name: result for result in results}

    def calls(self) -> list[str]:
        path = self.root / "calls"
        found = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def text(self, result: NodeResult) -> str:
        assert result.output is not None
        return (self.store.open(result.output.digest) / "text").read_text()

    def staged(self) -> list[str]:
        folder = self.store.root / "staging"
        return [path.name for path in folder.iterdir()] if folder.exists() else []


def states(results: Mapping[str, NodeResult]) -> dict[str, str]:
    return {name: result.state for name, result in results.items()}


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
    return found


@pytest.fixture
def node() -> Callable[..., PlanNode]:
    def make(name: str, kind: str = "text", **others: Any) -> PlanNode:
        given = {key: others.pop(key) for key in list(others) if key in PlanNode.__struct_fields__}
        given.setdefault("backoff_seconds", 0.01)
        inputs = {f"in{index}": one for index, one in enumerate(given.pop("inputs", ()))}
        return PlanNode(name=name, kind=kind, inputs=inputs, settings=others, **given)

    return make


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "plumbline_test_bodies.py").write_text(BODIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Bench(tmp_path, LocalArtefactStore(tmp_path / "store"))
    POOL.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder for runs in processes of their own."""
    (tmp_path / "plumbline_test_bodies.py").write_text(BODIES)
    return tmp_path
