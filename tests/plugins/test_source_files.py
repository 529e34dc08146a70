"""Every kind of file goes through every check of its kind: pins, order, and each way in which a file can be bad."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.components import load_catalogue
from engine.contracts import Reading
from engine.errors import DataError

COLUMNS = {"id": "str", "n": "i64", "x": "f64", "ok": "bool", "at": "timestamp"}
ROWS = pl.DataFrame(
    {
        "id": ["a", "b", "c"],
        "n": [3, None, -1],
        "x": [0.5, 1e300, None],
        "ok": [True, None, False],
        "at": ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", None],
    }
)
CATALOGUE = load_catalogue(Path("/"), ("files",))


def csv_bytes(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


def ndjson_bytes(frame: pl.DataFrame) -> bytes:
    return frame.write_ndjson().encode()


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def arrow_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer)
    return buffer.getvalue()


def stream_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[pl.DataFrame], bytes]] = {
    "csv": csv_bytes, "ndjson": ndjson_bytes, "parquet": parquet_bytes,
}  # fmt: skip
WRITERS |= {"arrow": arrow_bytes, "arrow-stream": stream_bytes}
KINDS = tuple(WRITERS)
TEXTS = ("csv", "ndjson")


def build(kind: str, path: Any, **params: Any) -> Any:
    import msgspec

    component = CATALOGUE.get("source", kind.partition("-")[0])
    return component.build(msgspec.convert({"path": path, **params}, component.params))


def read(source: Any, root: Path, columns: dict[str, str] = COLUMNS) -> pl.DataFrame:
    return pl.concat(list(source.read(Reading(root, source.pin(root), columns))))


def refused(source: Any, root: Path, columns: dict[str, str] = COLUMNS) -> DataError:
    with pytest.raises(DataError) as caught:
        read(source, root, columns)
    assert caught.value.hint, "say what to do"
    assert "\n" not in caught.value.message
    return caught.value


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that others than root can enter, so that permissions can be tried."""
    with tempfile.TemporaryDirectory(prefix="plumbline-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder).resolve()


@pytest.fixture
def powerless() -> Iterator[None]:
    """Nobody's rights: root may read every file."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# --- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_as_they_stand(kind: str, root: Path) -> None:
    (root / "rows").write_bytes(WRITERS[kind](ROWS))
    assert read(build(kind, "rows"), root).equals(ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_only_declared_columns_are_kept_in_their_order(kind: str, root: Path) -> None:
    (root / "rows").write_bytes(WRITERS[kind](ROWS))
    assert read(build(kind, "rows"), root, {"x": "f64", "id": "str"}).equals(ROWS.select("x", "id"))


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_read_by_name_and_rows_in_their_order(kind: str, root: Path) -> None:
    (root / "day").mkdir()
    for name, ids in (("2.x", ["d", "c"]), ("10.x", ["b", "a"]), ("1.x", ["z"])):
        (root / "day" / name).write_bytes(WRITERS[kind](pl.DataFrame({"id": ids})))
    assert read(build(kind, "day/*.x"), root, {"id": "str"})["id"].to_list() == ["z", "b", "a", "d", "c"]
    assert read(build(kind, ["day/2.x", "day/1*.x", "day/2.x"]), root, {"id": "str"})["id"].to_list() == list("zbadc")


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_with_brackets_is_a_name(kind: str, root: Path) -> None:
    (root / "rows[1].x").write_bytes(WRITERS[kind](ROWS))
    assert read(build(kind, "rows[1].x"), root).equals(ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_large_files_come_in_batches_in_order(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"n": range(5000)})
    (root / "rows").write_bytes(WRITERS[kind](frame))
    source = build(kind, "rows")
    read(source, root, {"n": "i64"})
    in_batches(monkeypatch)
    batches = list(source.read(Reading(root, source.pin(root), {"n": "i64"})))
    assert len(batches) > 1
    assert pl.concat(batches).equals(frame)


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("suffix", [".gz", ".GZ", ".zip"])
def test_packed_text_is_unpacked(kind: str, suffix: str, root: Path) -> None:
    pack(root / f"rows.{kind}{suffix}", WRITERS[kind](ROWS))
    assert read(build(kind, f"rows.{kind}{suffix}"), root).equals(ROWS)


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_byte_order_mark_is_no_data(kind: str, suffix: str, root: Path) -> None:
    pack(root / f"rows{suffix}", b"\xef\xbb\xbf" + WRITERS[kind](ROWS))
    assert read(build(kind, f"rows{suffix}"), root).equals(ROWS)


def test_csv_dialects(root: Path) -> None:
    (root / "rows.csv").write_bytes("id;n\n'a;b';NA\n'\xe9'; \n".replace(" ", "-").encode("latin1"))
    source = build("csv", "rows.csv", delimiter=";", quote="'", null_values=["NA", "-"], encoding="latin1")
    assert read(source, root, {"id": "str", "n": "i64"}).rows() == [("a;b", None), ("é", None)]


def test_csv_with_windows_line_ends_quoted_breaks_and_no_last_line_end(root: Path) -> None:
    (root / "rows.csv").write_bytes(b'id,n\r\n"a\r\nb",1\r\nc,')
    assert read(build("csv", "rows.csv"), root, {"id": "str", "n": "i64"}).rows() == [("a\r\nb", 1), ("c", None)]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1),
            st.none() | st.integers(-(2**63), 2**63 - 1),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(rows: list[tuple[str, int | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"id": pl.String, "n": pl.Int64}, orient="row")
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            (Path(folder) / kind).write_bytes(WRITERS[kind](frame))
            assert read(build(kind, kind), Path(folder), {"id": "str", "n": "i64"}).equals(frame)


# --- bad files -----------------------------------------------------------------------------------------------------


def pack(path: Path, content: bytes) -> None:
    match path.suffix.lower():
        case ".gz":
            path.write_bytes(gzip.compress(content))
        case ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("rows.txt", content)
        case _:
            path.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("path", "words"), [("gone", "there is no file"), ("*.gone", "no file matches")])
def test_a_missing_file(kind: str, path: str, words: str, root: Path) -> None:
    assert words in refused(build(kind, path), root).message


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder(kind: str, root: Path) -> None:
    (root / "folder").mkdir()
    assert "is a folder" in refused(build(kind, "folder"), root).message


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_may_not_be_read(kind: str, root: Path, powerless: None) -> None:
    path = root / "rows"
    os.seteuid(os.getuid())
    path.write_bytes(WRITERS[kind](ROWS))
    path.chmod(0o200)
    if os.getuid() == 0:
        os.seteuid(65534)
    error = refused(build(kind, "rows"), root)
    assert "Permission denied" in error.message
    assert str(path) in error.message


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_file(kind: str, root: Path) -> None:
    (root / "rows").write_bytes(b"")
    assert "is empty" in refused(build(kind, "rows"), root).message


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
@pytest.mark.parametrize("kind", TEXTS)
def test_an_empty_packed_file(kind: str, suffix: str, root: Path) -> None:
    pack(root / f"rows{suffix}", b"")
    assert "is empty" in refused(build(kind, f"rows{suffix}"), root).message


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_header_alone_is_no_rows(kind: str, root: Path) -> None:
    (root / "rows").write_bytes(WRITERS[kind](ROWS.clear()))
    assert read(build(kind, "rows"), root).height == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_column_is_named_with_the_nearest(kind: str, root: Path) -> None:
    (root / "rows").write_bytes(WRITERS[kind](ROWS))
    error = refused(build(kind, "rows"), root, {"id": "str", "okay": "bool"})
    assert "has no column `okay` (did you mean `ok`?)" in error.message
    assert "id, n, x, ok, at" in str(error.hint)


def test_a_column_twice_in_the_header(root: Path) -> None:
    (root / "rows.csv").write_bytes(b'id,n,"n"\na,1,2\n')
    assert "has n twice" in refused(build("csv", "rows.csv"), root, {"id": "str", "n": "i64"}).message


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"a,1\nb,2,3\nc,3\n", "data row 2 (line 3): 3 fields, and the header has 2"),
        (b"a,1\nb\nc,3\n", "data row 2 (line 3): 1 field, and the header has 2"),
        (b'"a\n,",1\nb\nc,3\n', "data row 2 (line 4): 1 field, and the header has 2"),
        (b'"a,",1\nb\nc,3\n', "data row 2 (line 3): 1 field, and the header has 2"),
        (b"a,1\n\nc,3\n", "data row 2 (line 3): a blank line"),
        (b'a,1\n"b,2\nc,3\n', "data row 2 (line 3): a quote is opened and never closed"),
        (b"a,1\nb,2.5\n", "data row 2, column `n`: '2.5' is not i64"),
        (b"a,1\nb,two\n", "data row 2, column `n`: 'two' is not i64"),
        (b"a,1\nb,9223372036854775808\n", "data row 2, column `n`: '9223372036854775808' is not i64"),
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_a_broken_csv_row_is_named(
    rows: bytes, words: str, large: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "rows.csv").write_bytes(b"id,n\n" + rows)
    if large:
        in_batches(monkeypatch)
    assert words in refused(build("csv", "rows.csv"), root, {"id": "str", "n": "i64"}).message


def module(name: str) -> Any:
    return importlib.import_module(f"plumbline_plugins.files.{name}")


def in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every file for a large one."""
    for name in ("reading", "text"):
        monkeypatch.setattr(module(name), "_LARGE_BYTES", 1)
        monkeypatch.setattr(module(name), "_BATCH_ROWS", 700)


def test_a_csv_without_quotes_is_told_without_quotes(root: Path) -> None:
    (root / "rows.csv").write_bytes(b'id,n\n"a,1\nb,x"\n')
    error = refused(build("csv", "rows.csv", quote=None), root, {"id": "str", "n": "i64"})
    assert "data row 2, column `n`: 'x\"' is not i64" in error.message


def test_trailing_blank_lines_are_nothing(root: Path) -> None:
    (root / "rows.csv").write_bytes(b"id,n\na,1\nb,\n\n\r\n")
    assert read(build("csv", "rows.csv"), root, {"id": "str", "n": "i64"}).rows() == [("a", 1), ("b", None)]


def test_a_field_longer_than_any_csv_tool_takes(root: Path) -> None:
    (root / "rows.csv").write_bytes(b'id,n\na,1\n"b' + b"x" * 200_000 + b"\n")
    assert "never closed" in refused(build("csv", "rows.csv"), root, {"id": "str", "n": "i64"}).message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"id": "b", "n": 2', "line 2: not JSON"),
        (b"[1]", "line 2: not a JSON object"),
        (b'{"id": "b", "n": "two"}', "line 2, column `n`: 'two' is not i64"),
        (b'{"id": "b", "n": 2.5}', "line 2, column `n`: 2.5 is not i64"),
        (b'{"id": "b", "n": true}', "line 2, column `n`: True is not i64"),
        (b'{"id": "b", "n": [2]}', "line 2, column `n`: [2] is not i64"),
        (b'{"id": "b", "n": 99999999999999999999}', "line 2, column `n`: 99999999999999999999 is not i64"),
        (b'{"id": "\xff", "n": 2}', "line 2: not UTF-8"),
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_a_broken_ndjson_row_is_named(
    line: bytes, words: str, large: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "rows").write_bytes(b'{"id": "a", "n": 1}\n' + line + b'\n{"id": "c", "n": 3}\n')
    if large:
        in_batches(monkeypatch)
    assert words in refused(build("ndjson", "rows"), root, {"id": "str", "n": "i64"}).message


def test_ragged_ndjson_has_nulls(root: Path) -> None:
    (root / "rows").write_bytes(b'{"id": "a"}\n\n{"n": 3, "more": {}}\n')
    assert read(build("ndjson", "rows"), root, {"id": "str", "n": "i64"}).rows() == [("a", None), (None, 3)]


@pytest.mark.parametrize(
    ("declared", "found"), [("i64", pl.Float64), ("bool", pl.Int64), ("str", pl.Int64), ("timestamp", pl.Int64)]
)
def test_a_parquet_column_of_another_type(declared: str, found: Any, root: Path) -> None:
    (root / "rows").write_bytes(parquet_bytes(pl.DataFrame({"n": [1]}, schema={"n": found})))
    error = refused(build("parquet", "rows"), root, {"n": declared})
    assert f"column `n` is {found.__name__}, and the source declares {declared}" in error.message.replace("()", "")


def test_truncated_parquet(root: Path) -> None:
    whole = parquet_bytes(ROWS)
    for size in (3, len(whole) // 2, len(whole) - 1):
        (root / "rows").write_bytes(whole[:size])
        assert "not whole Parquet" in refused(build("parquet", "rows"), root).message


def test_parquet_with_a_flipped_page(root: Path) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"id": [f"{i:x}" * 9 for i in range(5000)]}).write_parquet(buffer, compression="zstd")
    content = bytearray(buffer.getvalue())
    content[4:600] = bytes(596)
    (root / "rows").write_bytes(content)
    assert "not whole Parquet" in refused(build("parquet", "rows"), root, {"id": "str"}).message


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_a_truncated_archive(kind: str, suffix: str, root: Path) -> None:
    path = root / f"rows{suffix}"
    pack(path, WRITERS[kind](pl.DataFrame({"id": [f"{i}" for i in range(3000)]})))
    whole = path.read_bytes()
    for size in (1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        assert "not a whole archive" in refused(build(kind, path.name), root, {"id": "str"}).message


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_an_archive_with_a_flipped_byte(suffix: str, root: Path) -> None:
    path = root / f"rows{suffix}"
    pack(path, csv_bytes(pl.DataFrame({"id": [f"{i * 7919}" for i in range(3000)]})))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "not a whole archive" in refused(build("csv", path.name), root, {"id": "str"}).message


def test_several_files_in_a_zip(root: Path) -> None:
    for names in (("a.csv", "b.csv"), ()):
        with zipfile.ZipFile(root / "rows.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "id\n1\n")
        assert f"holds {len(names)} files" in refused(build("csv", "rows.zip"), root, {"id": "str"}).message


def test_an_encrypted_zip(root: Path) -> None:
    path = root / "rows.zip"
    pack(path, b"id\n1\n")
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1  # the flag that says so
    path.write_bytes(content)
    assert "is encrypted" in refused(build("csv", "rows.zip"), root, {"id": "str"}).message


def test_a_zip_packed_by_a_method_that_nobody_reads(root: Path) -> None:
    path = root / "rows.zip"
    pack(path, b"id\n1\n")
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.index(mark) + offset
        content[at : at + 2] = (97).to_bytes(2, "little")
    path.write_bytes(content)
    assert "compression" in refused(build("csv", "rows.zip"), root, {"id": "str"}).message


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_a_bomb(suffix: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module("unpacking"), "_BOMB_BYTES", 1 << 20)
    pack(root / f"rows{suffix}", b"id\n" + b"0" * (4 << 20))
    assert "refused" in refused(build("csv", f"rows{suffix}"), root, {"id": "str"}).message


def test_a_zip_that_lies_about_its_size(root: Path) -> None:
    path = root / "rows.zip"
    pack(path, b"id\n" + b"1\n" * 5000)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (3).to_bytes(4, "little")
    path.write_bytes(content)
    assert "not a whole archive" in refused(build("csv", "rows.zip"), root, {"id": "str"}).message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,\xff\na,1\n", "line 1: not UTF-8"),
        (b"id,n\na,1\n\xff,2\n", "line 3: not UTF-8"),
        ("id,n\na,1\n".encode("utf-16"), "is UTF-16"),
    ],
)
def test_another_encoding(content: bytes, words: str, root: Path) -> None:
    (root / "rows.csv").write_bytes(content)
    assert words in refused(build("csv", "rows.csv"), root, {"id": "str", "n": "i64"}).message


@pytest.mark.parametrize(("option", "value"), [("delimiter", ";;"), ("quote", "é"), ("encoding", "utf-16")])
def test_what_a_csv_reader_cannot_use(option: str, value: str) -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        build("csv", "rows", **{option: value})


# --- pins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_identity_changes_exactly_when_bytes_do(kind: str, root: Path) -> None:
    path = root / "rows"
    path.write_bytes(WRITERS[kind](ROWS))
    source = build(kind, "rows")
    first = source.pin(root).identity
    os.utime(path, ns=(1, 1))
    assert source.pin(root).identity == first
    path.chmod(0o600)
    shutil.copy(path, root / "copy")
    (root / "copy").replace(path)
    assert source.pin(root).identity == first
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert source.pin(root).identity != first


def test_identity_sees_a_file_rewritten_with_its_old_time(root: Path) -> None:
    path = root / "rows"
    path.write_bytes(b"id\n1\n")
    os.utime(path, ns=(10**18, 10**18))
    source = build("csv", "rows")
    first = source.pin(root).identity
    with path.open("r+b") as file:  # as rsync --inplace --times does
        file.write(b"id\n2\n")
    os.utime(path, ns=(10**18, 10**18))
    assert source.pin(root).identity != first


def test_identity_knows_which_files(root: Path) -> None:
    for name in ("1.csv", "2.csv"):
        (root / name).write_bytes(b"id\n1\n")
    both, one = build("csv", "*.csv").pin(root), build("csv", "1.csv").pin(root)
    assert both.identity != one.identity
    assert both.summary == "2 file(s), 10 bytes"


def memory(root: Path) -> dict[str, Any]:
    return json.loads((root / ".plumbline" / "pins.json").read_bytes())


def test_settled_files_are_remembered_and_not_read_again(root: Path, powerless: None) -> None:
    os.seteuid(os.getuid())
    path = root / "rows"
    path.write_bytes(b"id\n1\n")
    source = build("csv", "rows")
    source.pin(root)
    fresh = root / ".plumbline" / "pins.json"
    assert not fresh.exists() or str(path) not in memory(root)
    settle(path)
    first = source.pin(root)
    assert str(path) in memory(root)
    locate = module("locate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locate, "digest_file", lambda path: pytest.fail(f"{path} was read again"))
        assert source.pin(root) == first


def settle(path: Path) -> None:
    """Make a file look old in both its times, of which one cannot be set."""
    locate = module("locate")
    locate._SETTLED_SECONDS = -1.0


@pytest.fixture(autouse=True)
def settled_again() -> Iterator[None]:
    yield
    module("locate")._SETTLED_SECONDS = 2.0


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": []}', b"\xff"])
def test_a_damaged_memory_remembers_nothing(damage: bytes, root: Path) -> None:
    (root / "rows").write_bytes(b"id\n1\n")
    source = build("csv", "rows")
    first = source.pin(root)
    (root / ".plumbline").mkdir(exist_ok=True)
    (root / ".plumbline" / "pins.json").write_bytes(damage)
    assert source.pin(root) == first


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changes_between_pin_and_read(kind: str, root: Path) -> None:
    (root / "rows").write_bytes(WRITERS[kind](ROWS))
    source = build(kind, "rows")
    pin = source.pin(root)
    (root / "rows").write_bytes(WRITERS[kind](ROWS.head(1)))
    with pytest.raises(DataError, match="rows changed between planning and reading"):
        list(source.read(Reading(root, pin, COLUMNS)))
    (root / "rows").unlink()
    with pytest.raises(DataError, match="there is no file"):
        list(source.read(Reading(root, pin, COLUMNS)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changes_while_it_is_read(kind: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"n": range(5000)})
    (root / "rows").write_bytes(WRITERS[kind](frame))
    source = build(kind, "rows")
    in_batches(monkeypatch)
    batches = source.read(Reading(root, source.pin(root), {"n": "i64"}))
    next(batches)
    (root / "new").write_bytes(WRITERS[kind](frame))
    with (root / "new").open("ab") as file:
        file.write(b" ")
    (root / "new").replace(root / "rows")
    with pytest.raises(DataError, match="changed"):
        list(batches)


# --- data of a package ---------------------------------------------------------------------------------------------


def test_a_package_is_located_and_not_imported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = root / "site" / "weather_of_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "rows.csv").write_bytes(csv_bytes(ROWS))
    monkeypatch.syspath_prepend(str(root / "site"))
    assert read(build("package", "rows.csv", package="weather_of_test"), root).equals(ROWS)
    (package / "rows.strange").write_bytes(b"?")
    error = refused(build("package", "rows.strange", package="weather_of_test"), root)
    assert "cannot tell its format" in error.message


@pytest.mark.parametrize("package", ["no_such_package_here", "json.decoder", "../etc", ""])
def test_a_package_that_is_not_there(package: str, root: Path) -> None:
    error = refused(build("package", "rows.csv", package=package), root)
    assert "is not installed" in error.message


# --- folders as columns, and files that differ ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_folders_give_columns(kind: str, root: Path) -> None:
    for year, city, ids in (("2023", "New%20York", ["a", "b"]), ("2024", "__HIVE_DEFAULT_PARTITION__", ["c"])):
        folder = root / "rides" / f"year={year}" / f"city={city}"
        folder.mkdir(parents=True)
        (folder / "rows.x").write_bytes(WRITERS[kind](pl.DataFrame({"id": ids})))
    source = build(kind, "rides/**/*.x", hive=True)
    rows = read(source, root, {"year": "i64", "id": "str", "city": "str"})
    assert rows.rows() == [("2023", "a", "New York"), ("2023", "b", "New York"), ("2024", "c", None)]
    before = source.pin(root).identity
    (root / "rides" / "year=2024").rename(root / "rides" / "year=2025")
    assert source.pin(root).identity != before
    assert "year=2025" in list(source.parts(source.pin(root)))[1]


def test_folders_alone_are_no_columns(root: Path) -> None:
    (root / "year=2024").mkdir()
    (root / "year=2024" / "rows.csv").write_bytes(b"id\na\n")
    assert "is a folder's" in refused(build("csv", "*/*.csv", hive=True), root, {"year": "i64"}).message


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_files_may_differ_in_width_but_not_in_type(kind: str, root: Path) -> None:
    for number, type_ in enumerate((pl.Int32, pl.Int64, pl.UInt8, pl.Null)):
        frame = pl.DataFrame({"n": [None if type_ == pl.Null else number]}, schema={"n": type_})
        (root / f"{number}.x").write_bytes(WRITERS[kind](frame))
    assert read(build(kind, "*.x"), root, {"n": "i64"})["n"].to_list() == [0, 1, 2, None]
    (root / "4.x").write_bytes(WRITERS[kind](pl.DataFrame({"n": ["4"]})))
    assert "4.x: column `n` is String" in refused(build(kind, "*.x"), root, {"n": "i64"}).message


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_read_one_by_one(kind: str, root: Path) -> None:
    for name in ("a", "b", "c"):
        (root / f"{name}.x").write_bytes(WRITERS[kind](pl.DataFrame({"id": [name]})))
    source = build(kind, "*.x")
    reading = Reading(root, source.pin(root), {"id": "str"})
    assert list(source.parts(reading.pin)) == ["a.x", "b.x", "c.x"]
    found = [(name, frame["id"].to_list()) for name, frame in source.read_parts(reading, {"c.x", "a.x"})]
    assert found == [("a.x", ["a"]), ("c.x", ["c"])]


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_told(kind: str, root: Path) -> None:
    for name in ("a", "b"):
        (root / f"{name}.x").write_bytes(WRITERS[kind](ROWS))
    told: list[Any] = []
    source = build(kind, "*.x")
    list(source.read(Reading(root, source.pin(root), COLUMNS, lambda *words: told.append(words))))
    assert told == [("reading a.x", None, 0.5), ("reading b.x", None, 1.0)]
