"""Where the online state lies, by the URL's scheme: `file` (LMDB, embedded), `redis` and `rediss`, `memory`."""

from __future__ import annotations

from typing import Any

from engine.components import Component, Params


class CellsParams(Params, frozen=True, kw_only=True):
    """`url` as in `stores.online`, `name` the pipeline's: states of different pipelines do not meet."""

    url: str
    name: str


def components() -> tuple[Component, ...]:
    """The shipped stores."""
    return (
        Component(
            "online", "file", CellsParams, _file, ("lmdb",), "LMDB files in a folder; one machine, many processes"
        ),
        Component("online", "redis", CellsParams, _redis, ("redis",), "Redis or Valkey; many machines"),
        Component("online", "rediss", CellsParams, _redis, ("redis",), "Redis or Valkey over TLS"),
        Component("online", "memory", CellsParams, _memory, (), "nothing outlives the process"),
    )


def _file(params: CellsParams) -> Any:
    from .lmdb_cells import open_folder  # noqa: PLC0415 - start-up time

    return open_folder(params.url, params.name)


def _redis(params: CellsParams) -> Any:
    from .redis_cells import open_server  # noqa: PLC0415 - start-up time

    return open_server(params.url, params.name)


def _memory(params: CellsParams) -> Any:
    from engine.online.memory import named  # noqa: PLC0415 - start-up time

    return named(f"{params.url}/{params.name}")
