"""The whole of Hydra for `engine run`: `-m`, sweepers, `--cfg`, `--info`, `--hydra-help`, `hydra.run.dir`, completion.

Enters what is left of the command line; Hydra composes, sweeps and prints; each job comes back through `compose`, so it
has places and checks like a plain run. A plain run does not come here: `needs_hydra` says which is which.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from engine.config.composed import ComposedConfig
from engine.config.composition import ROOT_KEYS, compose
from engine.config.folders import PRIMARY, search_path
from engine.config.interpolation import resolvers
from engine.errors import EngineError, UsageError
from engine.project import Project

if TYPE_CHECKING:
    import argparse

Task = Callable[[ComposedConfig], Any]


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """What a command line says of its sweep: the keys that it holds fixed, and the words that identify it."""

    fixed: frozenset[str]
    identity: tuple[str, ...]
    space: tuple[str, ...] = ()


class SweepTask(Protocol):
    """Who runs the jobs that a sweeper proposes."""

    def launch(self, jobs: Sequence[Sequence[str]], first: int, facts: SweepFacts) -> list[Any]:
        """Run a batch and give a result a job."""
        ...

    def search(self, options: dict[str, Any], facts: SweepFacts) -> Any:
        """Propose jobs and run them."""
        ...


_HYDRA_KEY = re.compile(r"^[~+]{0,2}hydra[./]")
_FREE_KEYS = re.compile(
    r"^hydra\.sweeper\.(params|sampler_options|pruner_options)\b"
)  # mappings that Hydra holds closed
_HYDRA_NODE = re.compile(r"^hydra\s*:|^\s*-\s*(override\s+)?/?hydra/", re.MULTILINE)
_FIXED_FLAGS = ("config_path", "config_name", "config_dir", "experimental_rerun")


def needs_hydra(argv: Sequence[str], project: Project | None = None) -> bool:
    """Say whether a command line uses more of Hydra than composing.

    That is a flag, a `hydra.` override, or a `hydra:` node in the project's own `conf/config.yaml`.

    >>> needs_hydra(["pipeline=flights"]), needs_hydra(["-m", "train.seed=1,2"]), needs_hydra(["hydra.run.dir=x"])
    (False, True, True)
    """
    if any(item.startswith("-") or _HYDRA_KEY.match(item) for item in argv):
        return True
    return project is not None and _sets_hydra(project.conf / "config.yaml")


def run_hydra(project: Project, argv: Sequence[str], task: Task, sweep: SweepTask | None = None) -> None:
    """Give a command line to Hydra: plain runs go to `task`, the jobs of a sweep to `sweep` in batches, or to `task` one by one.

    The first error of a job is raised after the other jobs of its batch have run. Raises `UsageError` for what Hydra
    refuses.
    """
    from engine.config.hydra_internals import VERSION_BASE, get_args_parser, version  # noqa: PLC0415 - start-up time

    version.setbase(VERSION_BASE)
    parser = get_args_parser()
    try:
        arguments = parser.parse_args(list(argv))
    except SystemExit as leaving:  # argparse has printed the version, or what it did not understand
        if leaving.code in {None, 0}:
            return
        raise UsageError(
            "Hydra does not know this command line; see above", hint="engine run --hydra-help"
        ) from leaving
    given = ["--" + name.replace("_", "-") for name in _FIXED_FLAGS if getattr(arguments, name) is not None]
    given += [text for text in arguments.overrides if text.lstrip("+").startswith("hydra.searchpath")]
    if given:
        message = f"{given[0]}: the project's conf/ is searched, then the shipped one, and nothing else"
        raise UsageError(message, hint="use --project DIR")
    written = _admit_unmentioned(project, arguments)
    failures: list[BaseException] = []
    with resolvers(), _whole_errors():
        _register_home(project)
        job = _Job(project, task, sweep, written, failures, _facts(arguments.overrides, written))
        _launch(project, parser, arguments, job)
    if failures:
        raise failures[0]


def _sets_hydra(path: Path) -> bool:
    try:
        return _HYDRA_NODE.search(path.read_text(encoding="utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _register_home(project: Project) -> None:
    """Teach Hydra `${engine.home:}`, which `conf/builtin.yaml` uses: a sweep leaves its file there, wherever it is started."""
    from omegaconf import OmegaConf  # noqa: PLC0415 - start-up time

    OmegaConf.register_new_resolver("engine.home", lambda: str(project.home), replace=True)


def _launch(
    project: Project, parser: argparse.ArgumentParser, arguments: argparse.Namespace, job: Callable[[Any], Any]
) -> None:
    from engine.config.hydra_internals import HydraException, Plugins, run_hydra_application  # noqa: PLC0415
    from engine.config.sources import ProjectFolders, YamlSource  # noqa: PLC0415

    folders = search_path(project)
    Plugins.instance().register(YamlSource)
    Plugins.instance().register(ProjectFolders)
    ProjectFolders.folders = tuple(folders)
    try:
        run_hydra_application(arguments, parser, job, str(folders[0][1]), PRIMARY)
    except HydraException as error:
        raise UsageError(" ".join(str(error).split())) from error
    except ValueError as error:  # contradictory flags
        raise UsageError(str(error)) from error
    except SystemExit as leaving:
        if leaving.code not in {None, 0}:
            raise UsageError("Hydra refused this command line; see above") from leaving
    finally:
        ProjectFolders.folders = ()


def _admit_unmentioned(project: Project, arguments: argparse.Namespace) -> dict[str, str]:
    """Write `key=value` as `++key=value` for Hydra, which refuses a key that no file mentions; the spec decides later.

    Also composes the first job, so that mistakes in files are reported with their places and not by Hydra.
    Gives what the person wrote for each rewritten override.
    """
    from engine.config.hydra_internals import OverridesParser  # noqa: PLC0415
    from engine.config.repository import Repository  # noqa: PLC0415

    repository = Repository(search_path(project))
    written: dict[str, str] = {}
    rewritten, plain = [], []
    for text in arguments.overrides:
        key = text.partition("=")[0]
        is_value = (
            "=" in text
            and key[:1] not in "+~"
            and not _HYDRA_KEY.match(key)
            and not repository.group_exists(key.split("@")[0])
        )
        if is_value and key.split(".")[0] in ROOT_KEYS:
            written[f"++{key}"] = key
            rewritten.append(f"++{text}")
        elif _FREE_KEYS.match(key):
            rewritten.append(f"++{text}")
        else:
            rewritten.append(text)
        plain.append(text)
    arguments.overrides = rewritten
    if not (arguments.hydra_help or arguments.shell_completion or arguments.info):
        _check_first(project, plain, OverridesParser.create(config_loader=cast("Any", repository)))
    return written


def _check_sweeper(overrides: Sequence[str]) -> None:
    """Refuse two sweepers; raises `UsageError`."""
    chosen = list(
        dict.fromkeys(text.lstrip("+") for text in overrides if text.lstrip("+").startswith("hydra/sweeper="))
    )
    if len(chosen) > 1 or any("," in text for text in chosen):
        raise UsageError(
            f"two sweepers: {', '.join(chosen)}", hint="choose one: hydra/sweeper=optuna, or none for a grid"
        )


def _check_first(project: Project, overrides: Sequence[str], parser: Any) -> None:
    """Compose the first job of a sweep, or the only one; raises `ConfigError`, also for unreadable overrides."""
    from engine.config.hydra_internals import HydraException  # noqa: PLC0415

    first: list[str] = []
    _check_sweeper(overrides)
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException:
            first.append(text)
            continue
        if not override.is_sweep_override():
            first.append(text)
        elif override.is_discrete_sweep():
            values = list(override.sweep_string_iterator())
            if not values:
                hint = "range(start, stop, step) leaves its stop out; a glob needs an option that it matches"
                raise UsageError(f"{text}: there is no value in it to try", hint=hint)
            first.append(f"{override.get_key_element()}={values[0]}")
        elif not any(item.startswith("hydra/sweeper=optuna") for item in overrides):
            hint = "add hydra/sweeper=optuna, or name the values: choice(…), range(start, stop, step)"
            raise UsageError(f"{text}: an interval has no values to go through one by one", hint=hint)
    compose(project, first)


@dataclass
class _Job:
    """The task as Hydra sees it, and as our launcher and sweepers do; keeps errors from Hydra's traceback printer."""

    project: Project
    task: Task
    sweep: SweepTask | None
    written: Mapping[str, str]
    failures: list[BaseException]
    facts: SweepFacts

    def __call__(self, _: Any) -> Any:
        """Run the one job of a plain run; compose it with places."""
        from engine.config.hydra_internals import HydraConfig  # noqa: PLC0415

        overrides = [_as_written(text, self.written) for text in HydraConfig.get().overrides.task]
        return self._guarded(lambda: self.task(compose(self.project, overrides)))

    def launch(self, jobs: Sequence[Sequence[str]], first: int) -> Sequence[Any]:
        """Run a batch of a sweep."""
        sweep, asked = self.sweep, [[_as_written(text, self.written) for text in job] for job in jobs]
        if sweep is None:
            return [self._guarded(lambda words=words: self.task(compose(self.project, words))) for words in asked]  # type: ignore[misc]
        if self.failures:
            return [None] * len(jobs)
        found = self._guarded(lambda: sweep.launch(asked, first, self.facts))
        return found if found is not None else [None] * len(jobs)

    def search(self, options: dict[str, Any], arguments: Sequence[str], _: Any) -> Any:
        """Search with the space that the command line and the sweeper's options declare."""
        sweep, space = self.sweep, [_as_written(text, self.written) for text in arguments]
        if sweep is None:
            raise UsageError("nobody searches here", hint="engine run -m hydra/sweeper=optuna …")
        return self._guarded(lambda: sweep.search(options, replace(self.facts, space=tuple(space))))

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (EngineError, KeyboardInterrupt) as error:
            self.failures.append(error)
            if isinstance(error, KeyboardInterrupt):
                raise
            return None


def _facts(overrides: Sequence[str], written: Mapping[str, str]) -> SweepFacts:
    """Tell fixed keys from swept ones."""
    from engine.config.hydra_internals import HydraException, OverridesParser  # noqa: PLC0415

    fixed, parser = set(), OverridesParser.create()
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException:
            continue
        if not override.is_sweep_override():
            fixed.add(str(override.get_key_element()).lstrip("+~"))
    return SweepFacts(frozenset(fixed), tuple(_as_written(text, written) for text in overrides))


def _as_written(text: str, written: Mapping[str, str]) -> str:
    key, equals, value = text.partition("=")
    return f"{written.get(key, key)}{equals}{value}"


@contextmanager
def _whole_errors() -> Iterator[None]:
    """Have Hydra raise instead of printing and exiting, for the time of one call."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
