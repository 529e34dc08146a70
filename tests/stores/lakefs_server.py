"""A lakeFS server as the tests see it from the side: its version, and a repository less. Only for `LAKEFS_ENDPOINT`."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass
class LiveServer:
    """The server at `host:port`."""

    address: str

    @cached_property
    def version(self) -> str:
        """What it says of itself."""
        return str(self._ask("GET", "/config")["version_config"]["version"])

    def delete(self, repository: str) -> None:
        """Delete a repository, if it is there, and wait until the server has forgotten it: it caches for seconds."""
        deadline = time.monotonic() + 60
        while self._has(repository):
            self._try("DELETE", f"/repositories/{repository}?force=true")
            assert time.monotonic() < deadline, f"{repository} cannot be deleted"
            time.sleep(0.2)

    def _has(self, repository: str) -> bool:
        return self._try("GET", f"/repositories/{repository}")

    def _try(self, method: str, path: str) -> bool:
        try:
            self._ask(method, path)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            error.close()
            return False
        return True

    def _ask(self, method: str, path: str) -> Any:
        pair = f"{os.environ['LAKEFS_ACCESS_KEY_ID']}:{os.environ['LAKEFS_SECRET_ACCESS_KEY']}"
        token = base64.b64encode(pair.encode()).decode()
        request = urllib.request.Request(f"http://{self.address}/api/v1{path}", method=method)
        request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
