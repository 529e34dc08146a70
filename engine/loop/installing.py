"""How to have `engine tick` called: an entry for cron, systemd, Kubernetes or GitHub Actions. Pure but for `write`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from engine.errors import UnavailableError, UsageError


def install(root: Path, target: str, minutes: int, *, write: bool) -> str:
    """Give the text for a target, and with `write` install it (cron and systemd); raises `UsageError`, `UnavailableError`."""
    if not 1 <= minutes <= 59:
        raise UsageError(f"--every {minutes}: from 1 to 59 minutes")
    text = {"cron": cron_line, "systemd": systemd_units, "kubernetes": kubernetes_job, "github": github_workflow}[
        target
    ](root, minutes)
    if not write:
        return text
    if target == "cron":
        return _install_cron(root, text)
    if target == "systemd":
        return _install_systemd(root, minutes)
    raise UsageError(
        f"--install {target} prints what to apply; it cannot install it", hint="leave --yes out, and apply the text"
    )


def _command(root: Path) -> str:
    engine = Path(sys.executable).with_name("engine")
    program = str(engine) if engine.exists() else f"{sys.executable} -m engine"
    return f"{program} tick --project {shlex.quote(str(root))}"


def cron_line(root: Path, minutes: int) -> str:
    """One line of a crontab; what the tick says goes to a log in the project."""
    every = "*" if minutes == 1 else f"*/{minutes}"
    log = shlex.quote(str(root / ".plumbline" / "loop" / "tick.log"))
    command = f"mkdir -p {shlex.quote(str(root / '.plumbline' / 'loop'))} && {_command(root)} >> {log} 2>&1"
    return f"{every} * * * * {command.replace('%', chr(92) + '%')}"  # cron takes a bare % for the end of the line


def systemd_units(root: Path, minutes: int) -> str:
    """A service and its timer, for the user's own systemd."""
    service, timer = _units(root, minutes)
    return f"# ~/.config/systemd/user/plumbline-tick.service\n{service}\n# ~/.config/systemd/user/plumbline-tick.timer\n{timer}"


def _units(root: Path, minutes: int) -> tuple[str, str]:
    service = (
        "[Unit]\nDescription=Plumbline tick\n\n[Service]\nType=oneshot\n"
        f"WorkingDirectory={_escaped(str(root))}\nExecStart={_escaped(_command(root))}\nKillMode=process\n"
    )
    timer = (
        "[Unit]\nDescription=Plumbline tick\n\n[Timer]\n"
        f"OnCalendar=*:0/{minutes}\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
    )
    return service, timer


def _escaped(text: str) -> str:
    """For systemd, which takes a bare % for a specifier."""
    return text.replace("%", "%%")


def kubernetes_job(root: Path, minutes: int) -> str:
    """A CronJob: runs are done in the pod (`--wait`), which no longer lives than they do."""
    return f"""\
apiVersion: batch/v1
kind: CronJob
metadata: {{name: plumbline-tick}}
spec:
  schedule: "*/{minutes} * * * *"
  concurrencyPolicy: Allow        # two ticks at once are safe
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: tick
              image: IMAGE-WITH-PLUMBLINE-AND-YOUR-PROJECT
              workingDir: {root}
              command: [engine, tick, --wait]
              env:                # the state outlives the pod: `stores: {{state: "${{env:PLUMBLINE_STATE}}"}}` in conf/config.yaml
                - {{name: PLUMBLINE_STATE, valueFrom: {{secretKeyRef: {{name: plumbline, key: state}}}}}}
"""


def github_workflow(root: Path, minutes: int) -> str:
    """A scheduled workflow; GitHub starts it when it has time, and a tick makes up for what was missed."""
    del root
    return f"""\
name: plumbline tick
on:
  schedule: [{{cron: "*/{max(minutes, 5)} * * * *"}}]
  workflow_dispatch: {{}}
concurrency: {{group: plumbline-tick, cancel-in-progress: false}}
jobs:
  tick:
    runs-on: ubuntu-latest
    timeout-minutes: 350
    steps:
      - uses: actions/checkout@v4
      - run: python3 -m pip install plumbline
      - run: engine tick --wait --explain
        env: {{PLUMBLINE_STATE: "${{{{ secrets.PLUMBLINE_STATE }}}}"}}
"""


def _install_cron(root: Path, line: str) -> str:
    if shutil.which("crontab") is None:
        raise UnavailableError("there is no `crontab` here", hint="install cron, or use --install systemd")
    mark = f"# plumbline tick of {root}"
    listed = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False).stdout.splitlines()  # noqa: S607
    kept = [item for index, item in enumerate(listed) if item != mark and (index == 0 or listed[index - 1] != mark)]
    table = "\n".join([*kept, mark, line]) + "\n"
    done = subprocess.run(["crontab", "-"], input=table, capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        raise UnavailableError(f"crontab refused the entry: {done.stderr.strip()}")
    return f"installed in the crontab:\n{line}"


def _install_systemd(root: Path, minutes: int) -> str:
    folder = Path.home() / ".config" / "systemd" / "user"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(("plumbline-tick.service", "plumbline-tick.timer"), _units(root, minutes), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    for words in (["daemon-reload"], ["enable", "--now", "plumbline-tick.timer"]):
        try:
            done = subprocess.run(["systemctl", "--user", *words], capture_output=True, text=True, check=False)  # noqa: S603, S607
        except OSError as error:
            raise UnavailableError(
                f"systemctl cannot be run: {error}", hint="the units are written; start them yourself"
            ) from error
        if done.returncode:
            raise UnavailableError(
                f"systemctl refused: {done.stderr.strip()}", hint="the units are written; start them yourself"
            )
    return f"installed: {folder}/plumbline-tick.timer, every {minutes} minutes"
