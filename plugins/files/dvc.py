"""Files that DVC tracks: git says which bytes a revision means, DVC's cache or its remote has them. DVC itself is not needed.

Read from the revision: `<path>.dvc` or `dvc.lock`, each with the MD5 of a file, or of a folder's listing. Read from the
checkout: `.dvc/config`, which says where cache and remote are.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from engine.contracts import Pin, Reading
from engine.errors import DataError, IntegrityError

from .download import fetch, pin_objects
from .items import LocalFile
from .remote import scheme_of

_FOLDER = ".dir"
_LAYOUTS = ("files/md5/{0}/{1}", "{0}/{1}")  # since DVC 3, and before
_CHUNK = 1 << 20


def pin_tracked(root: Path, params: Any) -> Pin:
    """Identify the files by the MD5 that the revision has for them."""
    tracked = _Tracked(root, params)
    md5, size, inside = tracked.find(PurePosixPath(params.path))
    one = {"name": params.path, "md5": md5, "size": size}
    files: list[Any] = tracked.listing(md5, inside) if md5.endswith(_FOLDER) else [one]
    return Pin({"files": files}, f"{params.path} at {tracked.commit[:12]}, {len(files)} file(s)")


def fetch_tracked(reading: Reading, pinned: Mapping[str, Any], params: Any) -> LocalFile:
    """Give a file with the pinned bytes under its own name; raises `DataError` when neither cache nor remote has them."""
    return _Tracked(reading.root, params).place(str(pinned["name"]), str(pinned["md5"]), reading)


class _Tracked:
    """A checkout at a revision."""

    def __init__(self, root: Path, params: Any) -> None:
        import pygit2  # noqa: PLC0415 - start-up time

        self._root, self._params = root, params
        self._top: Path = root / params.repo
        try:
            repository = pygit2.Repository(str(self._top))
        except pygit2.GitError as error:
            raise DataError(f"{self._top} is no git checkout", hint="correct `repo`") from error
        try:
            found = repository.revparse_single(params.rev).peel(pygit2.Commit)
        except (pygit2.GitError, KeyError, ValueError) as error:
            raise DataError(f"{self._top} has no revision {params.rev!r}", hint="correct `rev`, or fetch it") from error
        self.commit, self._tree = str(found.id), found.tree

    def find(self, path: PurePosixPath) -> tuple[str, int | None, str]:
        """Give MD5 and size of a tracked path, and what is left of the path inside a tracked folder."""
        for candidate in (path, *list(path.parents)[:-1]):
            for place, out in self._outs(candidate):
                if place == candidate and "md5" in out:
                    inside = path.relative_to(candidate).as_posix()
                    return str(out["md5"]), out.get("size"), "" if inside == "." else inside
        raise DataError(
            f"{self._params.path} is not tracked by DVC at {self._params.rev}",
            hint="name what a .dvc file or dvc.lock tracks, from the top of `repo`",
        )

    def listing(self, md5: str, inside: str) -> list[dict[str, Any]]:
        """Give the files of a tracked folder, or the one that is asked for."""
        found = json.loads(self.place("listing.json", md5, None).path.read_bytes())
        top = PurePosixPath(self._params.path) if not inside else PurePosixPath(self._params.path[: -len(inside)])
        files = [
            {"name": str(top / item["relpath"]), "md5": item["md5"], "size": None}
            for item in sorted(found, key=lambda item: str(item["relpath"]))
            if not inside or item["relpath"] == inside or item["relpath"].startswith(f"{inside}/")
        ]
        if not files:
            raise DataError(
                f"{self._params.path}: DVC tracks the folder, and no such file in it", hint="correct `path`"
            )
        return files

    def place(self, name: str, md5: str, reading: Reading | None) -> LocalFile:
        """Bring a tracked file's verified bytes to a place with its name."""
        place = self._root / ".plumbline" / "downloads" / f"md5-{md5}" / PurePosixPath(name).name
        shown = f"{name} at {self.commit[:12]}"
        if not place.exists() or not _is(place, md5):
            source = self._source(md5, reading, shown)
            if not _is(source, md5):
                raise IntegrityError(f"{shown}: {source} does not have the MD5 {md5}", hint="fetch it again: dvc pull")
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_name(f".{os.getpid()}.part")
            with suppress(FileNotFoundError):
                part.unlink()
            shutil.copyfile(source, part)
            part.replace(place)
        return LocalFile(place, shown)

    def _source(self, md5: str, reading: Reading | None, shown: str) -> Path:
        config = self._config()
        cache = self._top / ".dvc" / config.get("cache", {}).get("dir", "cache")
        parts = [layout.format(md5[:2], md5[2:]) for layout in _LAYOUTS]
        for part in parts:
            if (cache / part).is_file():
                return cache / part
        remote = config.get(f'remote "{config.get("core", {}).get("remote", "")}"', {}).get("url")
        if remote is None:
            raise DataError(f"{shown} is not in DVC's cache, and there is no default remote", hint="run: dvc pull")
        if scheme_of(remote) is None:
            for part in parts:
                if (self._top / ".dvc" / remote / part).is_file():
                    return self._top / ".dvc" / remote / part
            raise DataError(f"{shown} is neither in DVC's cache nor in {remote}", hint="run dvc push where it is")
        return self._fetched(f"{remote.rstrip('/')}/{parts[0]}", reading)

    def _fetched(self, url: str, reading: Reading | None) -> Path:
        pinned = pin_objects(self._root, url, self._params)[0]
        progress = reading.progress if reading is not None else lambda *_: None
        return fetch(self._root, pinned, self._params, progress).path

    def _config(self) -> dict[str, dict[str, str]]:
        """Read DVC's configuration; the local file says more than the shared one."""
        parser = configparser.ConfigParser(interpolation=None)
        folder = self._top / ".dvc"
        try:
            parser.read([folder / "config", folder / "config.local"], "utf-8")
        except configparser.Error as error:
            raise DataError(f"{folder / 'config'} cannot be read: {error.message}", hint="correct it") from error
        return {name.strip("'"): dict(parser[name]) for name in parser.sections()}

    def _outs(self, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, Mapping[str, Any]]]:
        """Give every output that could be this path, with its own path from the top."""
        pointer = self._document(f"{path}.dvc")
        folder = path.parent / str(pointer.get("wdir", "."))
        for out in pointer.get("outs", ()):
            yield _joined(folder, out["path"]), out
        for parent in path.parents:
            lock = self._document(str(parent / "dvc.lock"))
            for stage in (lock.get("stages") or {}).values():
                for out in stage.get("outs", ()):
                    yield _joined(parent, out["path"]), out

    def _document(self, path: str) -> Mapping[str, Any]:
        """Read a YAML file of the revision; nothing when there is none."""
        try:
            found = yaml.safe_load((self._tree / path).read_raw())
        except KeyError:
            return {}
        except yaml.YAMLError as error:
            raise DataError(
                f"{path} at {self.commit[:12]} cannot be read", hint="correct it, or choose a `rev`"
            ) from error
        return found if isinstance(found, dict) else {}


def _joined(folder: PurePosixPath, path: str) -> PurePosixPath:
    return PurePosixPath(os.path.normpath(folder / path))


def _is(path: Path, md5: str) -> bool:
    """Say whether a file has this MD5; DVC before 3 took every line end of a text for a line feed."""
    wanted = md5.removesuffix(_FOLDER)
    plain, unix = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            plain.update(chunk)
            unix.update(chunk.replace(b"\r\n", b"\n"))
    return wanted in {plain.hexdigest(), unix.hexdigest()}
