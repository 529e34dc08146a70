"""Plugins load whole or not at all, from the list and from entry points, on any thread."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.components import PluginError, load_catalogue
from engine.errors import NotFoundError

PLUGIN = """
import time
from engine.components import Component, Params
time.sleep(0.05)
class P(Params, frozen=True, kw_only=True):
    x: int = 1
def components():
    return (Component("splitter", "{name}", P, lambda params: params),)
"""


def write_plugin(root: Path, name: str) -> None:
    path = root / "plugins" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(PLUGIN.format(name=name))


def test_two_threads_see_whole_plugins(tmp_path: Path) -> None:
    write_plugin(tmp_path, "slow_to_load")
    found: list[object] = []
    start = threading.Barrier(4)

    def load() -> None:
        start.wait()
        try:
            found.append(load_catalogue(tmp_path, ("slow_to_load",)).names("splitter"))
        except PluginError as error:
            found.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [("slow_to_load",)] * 4


def test_two_components_of_one_name_are_refused(tmp_path: Path) -> None:
    write_plugin(tmp_path, "first_of_two")
    (tmp_path / "plugins" / "second_of_two.py").write_text(PLUGIN.format(name="first_of_two"))
    with pytest.raises(PluginError, match="two plugins contribute the splitter `first_of_two`"):
        load_catalogue(tmp_path, ("first_of_two", "second_of_two"))


def test_an_unknown_component_lists_the_known(tmp_path: Path) -> None:
    write_plugin(tmp_path, "only_one")
    with pytest.raises(NotFoundError, match="known: only_one"):
        load_catalogue(tmp_path, ("only_one",)).get("splitter", "other")


def test_an_installed_entry_point_contributes(tmp_path: Path) -> None:
    """A distribution is a folder of metadata on the path; a process of its own sees it as installed."""
    write_plugin(tmp_path, "installed_elsewhere")
    (tmp_path / "plugins" / "installed_elsewhere.py").rename(tmp_path / "installed_elsewhere.py")
    metadata = tmp_path / "elsewhere-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[plumbline.plugins]\nelsewhere = installed_elsewhere:components\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pathlib import Path\n"
        "from engine.components import load_catalogue\n"
        "found = load_catalogue(Path('.'), ())\n"
        "print(found.names('splitter'), len(found.get('splitter', 'installed_elsewhere').source_digest))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('installed_elsewhere',) 64"
