"""The bootstrap: makes an environment from nothing, mends a broken one, and says what to do when it cannot.

The locks here are empty, so nothing is fetched; `.ci/run` installs the real one.
"""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import bootstrap, installation
from engine.bootstrap import check_python, main
from engine.installation import BootstrapError, install, missing_packages, offer_packages

ROOT = Path(__file__).resolve().parents[1]
EARLY = ("engine/__init__.py", "engine/bootstrap.py", "engine/installation.py")
UV = Path(sys.executable).with_name("uv")


def make_checkout(root: Path) -> Path:
    (root / "engine").mkdir(parents=True)
    (root / "plugins").mkdir()
    for name in (*EARLY, "engine/cli.py", "engine/errors.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (root / lock).write_text("# nothing\n")
    return root


def variables(uv: Path | None = None, **more: str) -> dict[str, str]:
    """Give an environment without this one's tools; with `uv`, when asked for."""
    path = os.pathsep.join([*([str(uv)] if uv else []), "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "PIP_NO_INDEX": "1", "UV_OFFLINE": "1", **more}


def call(root: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine.bootstrap", *arguments], cwd=root, env=env or variables(),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "a checkout's folder")  # with a space and a quote


@pytest.fixture
def with_uv(tmp_path: Path) -> dict[str, str]:
    """An environment with `uv`, which makes environments in no time."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "uv").symlink_to(UV)
    return variables(folder)


def test_from_nothing_with_venv_and_pip(checkout: Path) -> None:
    if importlib.util.find_spec("ensurepip") is None:
        pytest.skip("this Python has no ensurepip")
    first = call(checkout, "exec", "engine", "--help")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("usage: engine COMMAND")
    assert "with pip" in first.stderr
    assert (checkout / "engine" / "__pycache__").is_dir()


def test_from_nothing_with_uv_and_then_at_once(checkout: Path, with_uv: dict[str, str]) -> None:
    first = call(checkout, "exec", "engine", "--help", env={**with_uv, "PYTHONDONTWRITEBYTECODE": "1"})
    assert (first.returncode, first.stdout[:5]) == (0, "usage"), first.stderr
    assert "with uv" in first.stderr
    assert list((checkout / "engine" / "__pycache__").glob("cli.*.pyc"))
    began = time.perf_counter()
    second = call(checkout, "exec", "engine", "--help")
    assert time.perf_counter() - began < 10  # installing takes longer
    assert (second.returncode, second.stderr) == (0, "")
    assert (
        call(checkout, "run", "--help").returncode != 0
    )  # the command's own code: its modules are not in this checkout
    assert call(checkout, "exec", "no-such-command").returncode == 2


def test_a_change_of_lock_or_declaration_installs_again(checkout: Path, with_uv: dict[str, str]) -> None:
    for name in ("requirements.lock", "pyproject.toml"):
        call(checkout, "install", env=with_uv)
        assert "installing" not in call(checkout, "install", env=with_uv).stderr
        with (checkout / name).open("a") as file:
            file.write("# changed\n")
        assert "installing" in call(checkout, "install", env=with_uv).stderr


def test_development_tools_come_on_top(checkout: Path, with_uv: dict[str, str]) -> None:
    assert "requirements.lock" in call(checkout, "install", env=with_uv).stderr
    assert "requirements-dev.lock" in call(checkout, "install", "--dev", env=with_uv).stderr
    for mode in (("install",), ("install", "--dev")):
        assert "installing" not in call(checkout, *mode, env=with_uv).stderr


def test_interrupted_half_way_it_goes_on(checkout: Path, with_uv: dict[str, str]) -> None:
    call(checkout, "install", env=with_uv)
    (checkout / ".venv" / "plumbline.stamp").unlink()
    kept = checkout / ".venv" / "kept"
    kept.touch()
    mended = call(checkout, "exec", "engine", "--version", env=with_uv)
    assert mended.stdout.startswith("plumbline "), mended.stderr
    assert kept.exists()


def test_a_killed_installer_means_a_new_environment(checkout: Path, with_uv: dict[str, str], tmp_path: Path) -> None:
    killed = tmp_path / "tools" / "uv"
    killed.unlink()
    killed.write_text(f'#!/bin/sh\n[ "$1" = pip ] && kill -9 $$\nexec "{UV}" "$@"\n')
    killed.chmod(0o755)
    assert call(checkout, "install", env=with_uv).returncode == 7
    (checkout / ".venv" / "half").touch()
    killed.unlink()
    killed.symlink_to(UV)
    assert call(checkout, "install", env=with_uv).returncode == 0
    assert not (checkout / ".venv" / "half").exists()
    assert not list((checkout / ".venv").glob("plumbline.installing"))


@pytest.mark.parametrize("damage", ["python", "everything"])
def test_a_broken_environment_is_made_anew(checkout: Path, with_uv: dict[str, str], damage: str) -> None:
    call(checkout, "install", env=with_uv)
    venv = checkout / ".venv"
    if damage == "python":
        (venv / "bin" / "python").unlink()
        (venv / "bin" / "python").symlink_to("/nowhere/python")
    else:
        shutil.rmtree(venv)
        venv.mkdir()
    mended = call(checkout, "exec", "engine", "--version", env=with_uv)
    assert mended.stdout.startswith("plumbline "), mended.stderr


def test_a_file_of_somebody_is_not_deleted(checkout: Path, with_uv: dict[str, str]) -> None:
    (checkout / ".venv").write_text("mine")
    refused = call(checkout, "install", env=with_uv)
    assert (refused.returncode, (checkout / ".venv").read_text()) == (7, "mine")
    assert "move it away" in refused.stderr


def test_a_moved_checkout_gets_its_own_environment(checkout: Path, with_uv: dict[str, str]) -> None:
    call(checkout, "install", env=with_uv)
    moved = checkout.rename(checkout.with_name("elsewhere"))
    again = call(moved, "exec", "python", "-c", "import engine; print(engine.__file__)", env=with_uv)
    assert again.stdout.strip() == str(moved / "engine" / "__init__.py"), again.stderr
    assert "clearing" in again.stderr


def test_two_at_once_take_turns(checkout: Path, with_uv: dict[str, str]) -> None:
    command = [sys.executable, "-m", "engine.bootstrap", "exec", "engine", "--version"]
    both = [subprocess.Popen(command, cwd=checkout, env=with_uv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0][:10] for process in both] == ["plumbline "] * 2


@pytest.mark.parametrize(
    "line", ["no-such-distribution==1 --hash=sha256:" + "0" * 64, "not a requirement ==", "pip==1"]
)
def test_what_cannot_be_installed_is_told_and_leaves_no_stamp(
    checkout: Path, with_uv: dict[str, str], line: str
) -> None:
    (checkout / "requirements.lock").write_text(line + "\n")
    failed = call(checkout, "run", "pipeline=flights", env=with_uv)
    assert failed.returncode == 7
    assert "next: if the network or the package registry was away" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""
    assert not (checkout / ".venv" / "plumbline.stamp").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [((), 0, "usage:"), (("--help",), 0, "usage:"), (("fly",), 2, "unknown mode `fly`"), (("exec",), 2, "needs a command"),
     (("install", "--all"), 2, "only --dev")],
)  # fmt: skip
def test_words(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str) -> None:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert words in captured.out + captured.err


def test_an_old_python_is_told_of_a_newer_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_python((3, 11))
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "run", "pipeline=flights"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BootstrapError, match=r"this is 3\.8\n.*install a newer Python"):
        check_python((3, 8))
    (tmp_path / "python3.12").write_text("#!/bin/sh\n")
    (tmp_path / "python3.12").chmod(0o755)
    with pytest.raises(BootstrapError, match=r"type `python3\.12 -m engine\.bootstrap run pipeline=flights`"):
        check_python((3, 10))


@pytest.mark.parametrize("name", EARLY)
def test_old_pythons_can_read_it_and_nothing_needs_installing(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text("utf-8"), feature_version=(3, 8))
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            assert module.split(".")[0] in sys.stdlib_module_names or module == "engine.installation"


def test_missing_system_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    venv = "python{}.{}-venv".format(*sys.version_info[:2])
    assert missing_packages(needs_ensurepip=True) == ["libgomp1", venv]
    assert missing_packages(needs_ensurepip=False) == ["libgomp1"]


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `apt-get` that writes down how it was called, and fails at packages called `bad`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> "{folder}/calls"\ncase "$*" in *bad*) exit 100;; esac\n')
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "calls"


def test_root_installs_system_packages(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    offer_packages([])
    assert not apt.exists()
    offer_packages(["libgomp1"])
    assert apt.read_text().splitlines() == ["update -q", "install -y -q --no-install-recommends libgomp1"]
    with pytest.raises(BootstrapError, match="failed; its words are above"):
        offer_packages(["bad"])


def test_others_are_told_what_to_type(
    apt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation, "_root_prefix", lambda: None)
    with pytest.raises(BootstrapError) as caught:
        offer_packages(["libgomp1"])
    assert caught.value.code == 7
    assert "sudo apt-get update -q && sudo apt-get install -y" in str(caught.value)
    assert not apt.exists()


def test_a_full_disk_is_told_before_anything_is_made(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "NEEDED_BYTES", 1 << 62)
    with pytest.raises(BootstrapError, match="GB are free"):
        install(checkout, dev=False)
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 7)])
def test_what_stops_it_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(bootstrap, "install", stop)
    assert main(["install"]) == code
    assert "again" in (words := capsys.readouterr().err) or "goes on" in words
