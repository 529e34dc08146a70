"""Ticks at once, killed ticks, idle ticks: whole ticks of a small project, on SQLite and, with a URL, on PostgreSQL.

    python benchmarks/ticks.py together [--rounds 200] [--processes 50] [--state postgresql://…]
    python benchmarks/ticks.py kills [--kills 500] [--state …]
    python benchmarks/ticks.py idle [--pipelines 100]

`together`: every process ticks at the same moment, a slot is due, and exactly one request for it may come of that.
`kills`: a tick that launches a run is killed by SIGKILL at a random moment, run and all; the next tick has to finish the work,
once, and the ledger has to hold. `idle`: the command as cron calls it, with nothing due.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engine.clock import isoformat  # noqa: E402
from engine.loop.launching import launch_here  # noqa: E402
from engine.loop.locating import pipeline_of, states_of, stores_of  # noqa: E402
from engine.loop.tick import Around, tick  # noqa: E402
from engine.loop.work import Outcome, do_request  # noqa: E402
from engine.loop_records import LoopDecision, TriggerMemory, WaitingReasons  # noqa: E402
from engine.project import Project  # noqa: E402
from engine.watch.readings import Readings  # noqa: E402
from engine.watch_records import Finding, Reading  # noqa: E402

START = datetime(2024, 6, 1, tzinfo=UTC)
TRIGGERS = """
triggers: {every: {kind: cron, schedule: "* * * * *"}, hand: {kind: manual}}
retrain: {cooldown: 0s, budget: {runs: null}, backoff: {first: 1s, give_up_after: 1000}}
"""
QUIET = """
triggers:
  nightly: {kind: cron, schedule: "0 6 * * *", timezone: America/New_York}
  data: {kind: data_commit}
  drifted: {kind: drift}
  old: {kind: staleness, older_than: 90d}
monitors: default
"""


def make_project(folder: Path, state: str | None, triggers: str = TRIGGERS) -> Project:
    from tests.e2e.conftest import PIPELINE, rides

    (folder / "conf/pipeline").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "conf/pipeline/rides.yaml").write_text(PIPELINE + triggers)
    (folder / "data/rides.csv").write_text(rides())
    if state:
        base = "defaults:\n  - builtin\n  - _self_\n  - pipeline: ???\n"
        (folder / "conf/config.yaml").write_text(f"{base}stores: {{state: '{state}'}}\n")
    return Project(folder)


def worker(folder: str) -> None:
    """Tick at each moment that a line names; ready when the declaration is read."""
    project = Project(Path(folder))
    pipeline_of(project, "rides")
    print("ready", flush=True)
    for line in sys.stdin:
        moment = datetime.fromisoformat(line.strip())
        report = tick(project, Around(now=moment, launch=lambda _request, _stores: None))
        print(report.pipelines[0].action, flush=True)


def together(project: Project, rounds: int, processes: int) -> None:
    _, state = pipeline_of(project, "rides")
    command = [sys.executable, __file__, "worker", str(project.root)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    tick(project, Around(now=START, launch=lambda _request, _stores: None))
    wrong, slowest = 0, 0.0
    for number in range(1, rounds + 1):
        moment, begun = START + number * timedelta(minutes=1), time.perf_counter()
        for child in children:
            child.stdin.write(f"{moment.isoformat()}\n")
            child.stdin.flush()
        said = [child.stdout.readline().strip() for child in children]
        slowest = max(slowest, time.perf_counter() - begun)
        requests = state.open_requests()
        wrong += said.count("launch") != 1 or len(requests) != 1
        for request in requests:
            do_request(project, state, request.key, lambda *_: Outcome(None, 0, None, {}, (), None))
    for child in children:
        child.stdin.close()
        child.wait()
    launched = [entry for entry in state.history("rides", 10**6) if entry.decision.action == "launch"]
    print(f"{processes} ticks at once, {rounds} rounds: {len(launched)} launches, {wrong} rounds with another number than one, "
          f"ledger: {state.verify() or 'holds'}, slowest round {slowest:.2f} s")  # fmt: skip
    assert wrong == 0
    assert len({entry.decision.request for entry in launched}) == len(launched) == rounds


def forked(project: Project, moment: datetime) -> int:
    """Tick in a child, in a process group of its own, doing the run there; gives its pid."""
    pid = os.fork()
    with suppress(OSError):  # by both, whoever comes first
        os.setpgid(pid, pid)
    if pid == 0:
        code = 1
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            tick(project, Around(now=moment, launch=launch_here(project)))
            code = 0
        finally:
            os._exit(code)
    return pid


def kills(project: Project, count: int) -> None:
    _, state = pipeline_of(project, "rides")
    now, draw, spans, missed = datetime.now(UTC), random.Random(5), [], 0
    for number in range(count + 3):
        moment = now + timedelta(seconds=number)
        fire(state, number)
        begun, pid = time.perf_counter(), forked(project, moment)
        if (
            number < 3
        ):  # the first run does all the work; then nothing is left to compute, and a tick is as short as it gets
            os.waitpid(pid, 0)
            spans.append(time.perf_counter() - begun)
            continue
        time.sleep(draw.random() * spans[-1])
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for _ in range(3):
            os.waitpid(forked(project, moment), 0)
            if not state.open_requests():
                break
        done = [item for item in state.recent_requests("rides", "") if item.reasons.get(f"k{number}")]
        missed += len(done) != 1 or done[0].state != "done"
    told = [entry.decision for entry in state.history("rides", 10**6)]
    finished = [item.request for item in told if item.action == "finish"]
    print(f"{count} kills within {spans[-1]:.2f} s: {missed} lost or undone, {len(finished)} runs told, "
          f"{len(finished) - len(set(finished))} doubled, ledger: {state.verify() or 'holds'}")  # fmt: skip
    assert missed == 0
    assert len(set(finished)) == len(finished) == count + 3


def fire(state: object, number: int) -> None:
    memory = state.memories().get("rides", TriggerMemory(pipeline="rides"))  # type: ignore[attr-defined]
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    wish = WaitingReasons(since=at, intent="train", reasons={f"k{number}": "w"}, occasions={f"k{number}": str(number)})
    import msgspec

    decision = LoopDecision(pipeline="rides", at=at, action="fire", why="w")
    assert state.commit(memory, msgspec.structs.replace(memory, waiting=wish), decision, None)  # type: ignore[attr-defined]


def idle(project: Project, pipelines: int) -> None:
    conf = project.conf / "pipeline"
    for number in range(pipelines - 1):
        (conf / f"p{number:03d}.yaml").write_text(
            f"# @package _global_\ndefaults: [rides, _self_]\nname: p{number:03d}\n"
        )
    settle(project)
    command = [sys.executable, "-m", "engine", "tick", "--project", str(project.root)]
    spans, used = [], []
    for _ in range(8):
        before, begun = cpu_seconds(), time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
        spans.append(time.perf_counter() - begun)
        used.append(cpu_seconds() - before)
        assert done.returncode == 0, done.stderr
    said = f"{pipelines} pipelines, {done.stdout.strip()}: first tick {spans[0]:.2f} s"
    print(f"{said}, then {min(spans[3:]):.2f} to {max(spans[3:]):.2f} s, of the processor {min(used[3:]):.2f} s")


def settle(project: Project) -> None:
    """Have every pipeline looked at once, without a run, and give each the readings of twelve chunks."""
    tick(project, Around(now=datetime.now(UTC), launch=lambda _request, _stores: None))
    for declaration, state in states_of(project)[0]:
        for request in state.open_requests():
            do_request(project, state, request.key, lambda *_: Outcome(None, 0, None, {"rides": "a" * 64}, (), None))
        findings = tuple(
            Finding(name=f"f{number}", status="ok", effect=0.01, distances={"psi": 0.01, "ks": 0.02})
            for number in range(30)
        )
        day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        chunks = [(day - timedelta(days=back + 1), day - timedelta(days=back)) for back in range(12)]
        readings = [
            Reading(pipeline=declaration.declared.name, monitor="drift", kind="drift", chunk=f"{start:%F}", start=isoformat(start),
                    end=isoformat(end), rows=1000, status="ok", findings=findings, at=isoformat(end))
            for start, end in chunks
        ]  # fmt: skip
        Readings(stores_of(project, declaration).database).record(readings, [], [])


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("together", "kills", "idle", "worker"))
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--pipelines", type=int, default=100)
    parser.add_argument("--state")
    arguments = parser.parse_args()
    if arguments.what == "worker":
        worker(arguments.folder)
        return
    folder = Path(tempfile.mkdtemp(prefix="plumbline-ticks-"))
    try:
        if arguments.what == "together":
            together(make_project(folder, arguments.state), arguments.rounds, arguments.processes)
        elif arguments.what == "kills":
            by_hand = TRIGGERS.replace('every: {kind: cron, schedule: "* * * * *"}, ', "")
            kills(make_project(folder, arguments.state, by_hand), arguments.kills)
        else:
            idle(make_project(folder, None, QUIET), arguments.pipelines)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
