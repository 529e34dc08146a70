"""The folders that are searched for files, as sources that Hydra can read.

`repository` reads through `YamlSource` when composing; a whole Hydra application does so too, by way of `ProjectFolders`.
Importing this module imports Hydra.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from omegaconf import OmegaConf

from engine.config.files import YamlFile, read_yaml
from engine.config.folders import OWN
from engine.config.hydra_internals import ConfigLoadError, ConfigResult, ConfigSource, ObjectType, SearchPathPlugin
from engine.errors import ConfigError


class YamlSource(ConfigSource):
    """One folder of the search path, with the engine's dialect of YAML. Hydra makes it from provider and URL."""

    @staticmethod
    def scheme() -> str:
        """The URL scheme under which Hydra finds this class."""
        return "plumbline"

    def read(self, config_path: str) -> YamlFile:
        """Read a file; raises nothing for its content."""
        path = self._locate(config_path)
        folder = Path(self.path)
        name = str(path.relative_to(folder.parent)) if self.provider == OWN else str(path)
        return read_yaml(path, name)

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file for Hydra's own loader; raises `ConfigError` when it is broken."""
        if not self.is_config(config_path):
            raise ConfigLoadError(f"no such file: {config_path}")
        file = self.read(config_path)
        if file.problems:
            raise ConfigError(file.problems)
        return self.result(file.values, file.package)

    def result(self, values: dict[str, Any], package: str | None) -> ConfigResult:
        """Wrap values for Hydra."""
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(values), {"package": package})

    def available(self) -> bool:
        """Say whether the folder exists."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Say whether a folder is there."""
        return ".." not in PurePosixPath(config_path).parts and (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Say whether a file is there."""
        return ".." not in PurePosixPath(config_path).parts and self._locate(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Name the files (without `.yaml`) and folders in a folder."""
        folder = Path(self.path) / config_path
        files = [entry.stem for entry in folder.glob("*.yaml") if results_filter in {None, ObjectType.CONFIG}]
        groups = [
            entry.name for entry in folder.iterdir() if entry.is_dir() and results_filter in {None, ObjectType.GROUP}
        ]
        return sorted({*files, *groups} - {"__pycache__"})

    def _locate(self, config_path: str) -> Path:
        return Path(self.path) / self._normalize_file_name(config_path)


class ProjectFolders(SearchPathPlugin):
    """Points a Hydra application at our folders, read by our reader; idle while `folders` is empty."""

    folders: ClassVar[tuple[tuple[str, Path], ...]] = ()

    def manipulate_search_path(self, search_path: Any) -> None:
        """Replace the main entry by the first folder and add the others."""
        for entry in search_path.get_path():
            if entry.provider == OWN and self.folders:
                entry.provider, entry.path = self.folders[0][0], f"{YamlSource.scheme()}://{self.folders[0][1]}"
        for provider, path in self.folders[1:]:
            search_path.append(provider, f"{YamlSource.scheme()}://{path}")
