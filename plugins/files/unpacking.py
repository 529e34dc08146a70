"""Text inside archives: `.gz`, and `.zip` with one file. Broken, encrypted and exploding archives are refused in words."""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib

from engine.errors import DataError

from .items import LocalFile

_BOMB_RATIO, _BOMB_BYTES = 200, 1 << 30
PACKED = frozenset({".gz", ".zip"})


def is_packed(file: LocalFile) -> bool:
    """Say whether a file's name is that of an archive."""
    return file.path.suffix.lower() in PACKED


def unpack(file: LocalFile) -> bytes:
    """Give what is inside; raises `DataError`."""
    try:
        return _unzip(file) if file.path.suffix.lower() == ".zip" else _gunzip(file)
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{file} is not a whole archive: {error}", hint="is it truncated? fetch it again") from error
    except NotImplementedError as error:
        raise DataError(f"{file} cannot be unpacked: {error}", hint="pack it by deflate, or as .gz") from error


def _unzip(file: LocalFile) -> bytes:
    with zipfile.ZipFile(file.path) as archive:
        members = [item for item in archive.infolist() if not item.is_dir()]
        if len(members) != 1:
            names = ", ".join(item.filename for item in members[:5]) or "nothing"
            raise DataError(
                f"{file} holds {len(members)} files ({names}); one is allowed", hint="unpack it, and use a glob"
            )
        member = members[0]
        if member.flag_bits & 1:
            raise DataError(f"{file} is encrypted", hint="decrypt it first")
        _refuse_bomb(file, member.file_size)
        return archive.read(member)


def _gunzip(file: LocalFile) -> bytes:
    limit = max(_BOMB_BYTES, file.path.stat().st_size * _BOMB_RATIO)
    with gzip.open(file.path) as stream:
        content = stream.read(limit + 1)
    _refuse_bomb(file, len(content))
    return content


def _refuse_bomb(file: LocalFile, expanded: int) -> None:
    packed = file.path.stat().st_size
    if expanded > _BOMB_BYTES and expanded > packed * _BOMB_RATIO:
        raise DataError(
            f"{file} grows from {packed:,} to at least {expanded:,} bytes, more than {_BOMB_RATIO} times: refused",
            hint="if it is what you expect, unpack it yourself",
        )
