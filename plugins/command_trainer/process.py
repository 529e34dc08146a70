"""Processes of the user's programs: run to the end, or kept alive and asked; killed with all that they started."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from engine.contracts import Progress
from engine.errors import DataError

_LAST_LINES = 20
_GRACE = 3.0  # seconds between the polite signal and the other one


def run_to_end(command: Sequence[str], folder: Path, seconds: float, progress: Progress) -> None:
    """Run a program; raises `DataError` with the end of its standard error when it fails or takes longer than `seconds`."""
    process = _start(command, folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    said = Listener(process, progress)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        end_group(process)
        words = f"the training program took longer than {seconds:g} s and was ended{said.last()}"
        raise DataError(words, hint="raise train.timeout") from None
    finally:
        end_group(process)
    if code:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise DataError(f"the training program failed ({how}){said.last()}", hint="run it by hand on the same rows")


class Listener:
    """Passes standard error on line by line, in a thread that ends with it, and keeps the last lines."""

    def __init__(self, process: subprocess.Popen[bytes], progress: Progress) -> None:
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._progress = progress
        self._thread: threading.Thread | None = None
        if process.stderr is not None:
            self._thread = threading.Thread(target=self._follow, args=(process.stderr,), daemon=True)
            self._thread.start()

    def last(self) -> str:
        """Give the end of what was said, after all of it has been read."""
        if self._thread is not None:
            self._thread.join(timeout=_GRACE)
        return ": " + " | ".join(list(self._lines)[-5:]) if self._lines else ""

    def _follow(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self._lines.append(line.decode(errors="replace").rstrip()[:500])
                self._progress(self._lines[-1], None, None)


class ScoringProcess:
    """A scoring program: a line of JSON in (`{"rows": …, "predictions": …}`, two paths), a line out (`{}`, `{"error": …}`)."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, seconds: float) -> None:
        self._process, self._folder, self._seconds = process, folder, seconds
        self._said = Listener(process, lambda *_: None)
        self._turn = threading.Lock()  # one question at a time
        self._asked = 0
        self._stop = weakref.finalize(self, _close, process)

    @classmethod
    def start(cls, command: Sequence[str], files: Mapping[str, bytes], limits: tuple[float, float]) -> ScoringProcess:
        """Lay the model's files out and start its program, which says `{"ready": true}` when it can score.

        `limits` are seconds to start in, and to answer in. The program's last argument is the artefact directory.
        """
        holder = tempfile.TemporaryDirectory(prefix="plumbline-score-", ignore_cleanup_errors=True)
        root = Path(holder.name)
        (root / "program").mkdir()
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        argv = (*command, str(root / "artefact"))
        process = _start(argv, root / "program", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started = cls(process, root, limits[1])
        weakref.finalize(started, holder.cleanup)  # after the process: the last one made is called first at exit
        started._hear(limits[0], "start")
        return started

    @property
    def alive(self) -> bool:
        """Whether the program still runs."""
        return self._process.poll() is None

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        """Ask for predictions, (n,) or (n, k); raises `DataError` when the program fails, and ends it."""
        with self._turn:
            self._asked += 1
            asked, answered = (self._folder / f"{part}-{self._asked}.parquet" for part in ("rows", "out"))
            rows.write_parquet(asked)
            try:
                self._say({"rows": str(asked), "predictions": str(answered)})
                self._hear(self._seconds, "score")
                table = pl.read_parquet(answered).cast(pl.Float64)
            except (OSError, pl.exceptions.PolarsError) as error:
                self._stop()
                raise DataError(
                    f"the scoring program left no readable predictions: {error}{self._said.last()}"
                ) from error
            finally:
                asked.unlink(missing_ok=True)
                answered.unlink(missing_ok=True)
        found = table.to_numpy()
        return np.ascontiguousarray(found[:, 0] if table.columns == ["prediction"] else found)

    def _hear(self, seconds: float, what: str) -> None:
        line = _read_line(self._process, seconds)
        try:
            answer: Any = json.loads(line) if line else None
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "error" not in answer:
            return
        self._stop()
        why = answer["error"] if isinstance(answer, dict) else (line or b"no answer").decode(errors="replace").strip()
        hint = "see docs/training.md: one line of JSON on stdout for each line on stdin, nothing else"
        raise DataError(f"the scoring program did not {what} within {seconds:g} s: {why}{self._said.last()}", hint=hint)

    def _say(self, question: Mapping[str, str]) -> None:
        if self._process.stdin is None:
            raise DataError("the scoring program has no standard input")
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and everything that it started: politely first, then surely."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE)
        until = time.monotonic() + (_GRACE if sign is signal.SIGTERM else 0.0)
        while _group_lives(process.pid) and time.monotonic() < until:
            time.sleep(0.01)
        if not _group_lives(process.pid):
            return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    end_group(process)


def _start(command: Sequence[str], folder: Path, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - the program that the pipeline declares, without a shell
            list(command), cwd=folder, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise DataError(f"the program {command[0]} cannot be started: {error}", hint="give its whole path") from error


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """Read one line of standard output, or as much as came until the time is over."""
    pipe = process.stdout
    if pipe is None:
        return b""
    found, until = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not selector.select(left):
                return found
            piece = os.read(pipe.fileno(), 65_536)
            if not piece:
                return found
            found += piece
    return found
