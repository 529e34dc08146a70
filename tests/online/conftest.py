"""Every store of cells, so that each test of the contract runs on each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from engine.components import Catalogue, load_catalogue
from engine.online.opening import open_cells
from engine.online_contracts import Cells
from tests.online.servers import running_server

settings.register_profile("deep", max_examples=500, deadline=None, print_blob=True)
_NUMBERS = itertools.count()
Opener = Callable[[str], Cells]


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load_catalogue(Path(__file__), ("state_stores",))


@pytest.fixture(scope="session", params=["memory", "file", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("online")
    if request.param == "redis":
        with running_server(folder) as (url, _):
            yield url
    elif request.param == "file":
        yield f"file://{folder}?map=1"  # a mebibyte: it has to grow
    else:
        yield f"memory://{folder}"


@pytest.fixture
def opener(store_url: str, catalogue: Catalogue) -> Iterator[Opener]:
    """Open a store by name; the same name gives the same cells."""
    number = next(_NUMBERS)
    opened: list[Cells] = []

    def one(name: str) -> Cells:
        opened.append(open_cells(store_url, f"{name}{number}", catalogue))
        return opened[-1]

    yield one
    for cells in opened:
        cells.close()
