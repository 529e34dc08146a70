"""A body that has its parts run side by side: in children of this process; what dies, fails or is stopped among them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from engine.execute.seats import Stops

from .conftest import wait_until


def _pids(bench):
    return [int(pid) for pid in (bench.root / "pids").read_text().split()]


def _is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_parts_run_side_by_side_in_processes_of_their_own_and_answer_in_order(bench, node):
    result = bench.run(node("w", "whole", how="meet"), workers=2)["w"]
    assert (result.state, bench.text(result)) == ("ran", "0 1 2 3 4")
    notes = result.output.notes
    assert notes["beside"] == 2
    assert len(notes["pids"]) == 2
    assert notes["own"] not in notes["pids"]
    assert any(event.message == "part 3" and event.node == "w" for event in bench.heard.events)


def test_one_slot_does_its_parts_itself(bench, node):
    result = bench.run(node("w", "whole"), workers=1)["w"]
    assert (bench.text(result), result.output.notes["pids"]) == ("0 1 2 3 4", [])
    again = bench.run(node("w", "whole", count=1, word="other"), workers=2)["w"]
    assert (bench.text(again), again.output.notes["pids"]) == ("0", [])


def test_parts_of_parts_are_done_in_turn(bench, node):
    assert bench.text(bench.run(node("w", "whole", how="again"), workers=2)["w"]) == "2 2 2 2 2"


def test_a_part_whose_process_dies_is_done_again_alone(bench, node):
    result = bench.run(node("w", "whole", how="kill"), workers=2)["w"]
    assert (result.state, bench.text(result), bench.calls()) == ("ran", "0 1 2 3 4", ["w"])
    assert any("a part of it" in message and "SIGKILL" in message for message in bench.heard.messages("warning"))


def test_a_part_that_always_dies_fails_the_node_after_its_tries(bench, node):
    result = bench.run(node("w", "whole", how="kill always", retries=1), workers=2)["w"]
    assert (result.state, bench.calls().count("w")) == ("failed", 1 + 2)
    assert "killed by SIGKILL" in result.error


def test_the_first_part_that_fails_ends_the_others_and_its_words_are_the_nodes(bench, node):
    result = bench.run(node("w", "whole", how="data", seconds=60), workers=3)["w"]
    assert (result.state, result.exit_code) == ("failed", 5)
    assert result.error.startswith("users.csv:3: no key")
    wait_until(lambda: all(_is_gone(pid) for pid in _pids(bench)))
    assert bench.staged() == []


def test_ctrl_c_and_a_timeout_end_the_parts(bench, node):
    def interrupt():
        wait_until(lambda: (bench.root / "pids").exists() and len(_pids(bench)) >= 4)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = bench.run(node("w", "whole", how="slow", seconds=60), workers=2)["w"]
    thread.join()
    assert result.state == "cancelled"
    wait_until(lambda: all(_is_gone(pid) for pid in _pids(bench)))
    late = bench.run(node("v", "whole", how="slow", seconds=60, timeout_seconds=1.0, retries=0), workers=2)["v"]
    assert (late.state, "took longer than 1 s" in late.error) == ("failed", True)
    wait_until(lambda: all(_is_gone(pid) for pid in _pids(bench)))


def test_a_node_that_is_stopped_alone_takes_its_parts_with_it(bench, node):
    stops = Stops()
    thread = threading.Thread(target=lambda: wait_until((bench.root / "pids").exists) and stops.stop("w", "pruned"))
    thread.start()
    results = bench.run(node("w", "whole", how="slow", seconds=60), node("a"), workers=2, stops=stops, cores=2)
    thread.join()
    assert (results["w"].state, results["w"].reason, results["a"].state) == ("cancelled", "pruned", "ran")
    wait_until(lambda: all(_is_gone(pid) for pid in _pids(bench)))
