"""Notifiers: a log of JSON lines, a webhook, and Apprise, which reaches a hundred services by URL.

Enters: an alert and what happened to it (`opened`, `resolved`). Leaves: a message. Called by `engine.watch.notify`; what
raises is tried again later.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec

from engine.components import Component, Params
from engine.errors import EngineError, ExitCode
from engine.watch_records import Alert

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=60)]
_TIMEOUT = 10.0


class NotifierError(EngineError):
    """A message that could not be handed over."""

    exit_code = ExitCode.UNAVAILABLE


class LogParams(Params, frozen=True, kw_only=True):
    """Append each message to a file as one line of JSON."""

    path: str = "runs/alerts.jsonl"


class WebhookParams(Params, frozen=True, kw_only=True):
    """POST each message as JSON. `token_env` names an environment variable that holds a bearer token."""

    url: Annotated[str, msgspec.Meta(pattern="^https?://")]
    token_env: str | None = None
    timeout: _Seconds = _TIMEOUT


class AppriseParams(Params, frozen=True, kw_only=True):
    """Send through Apprise. `urls` may hold environment variables, as in `slack://$SLACK_TOKEN`; secrets stay out of files."""

    urls: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Log:
    """A file of JSON lines."""

    def __init__(self, params: LogParams) -> None:
        self._params = params

    def send(self, alert: Alert, event: str) -> None:
        """Append, durably."""
        path = Path(self._params.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(msgspec.json.encode(_message(alert, event)) + b"\n")
            file.flush()
            os.fsync(file.fileno())


class Webhook:
    """One HTTP request a message."""

    def __init__(self, params: WebhookParams) -> None:
        self._params = params

    def send(self, alert: Alert, event: str) -> None:
        """POST; any answer but 2xx raises."""
        import urllib.request  # noqa: PLC0415 - start-up time

        headers = {"content-type": "application/json", "idempotency-key": f"{alert.id}-{event}"}
        if self._params.token_env is not None:
            headers["authorization"] = f"Bearer {os.environ[self._params.token_env]}"
        body = msgspec.json.encode(_message(alert, event))
        request = urllib.request.Request(self._params.url, body, headers, method="POST")  # noqa: S310 - http(s), by pattern
        with urllib.request.urlopen(request, timeout=self._params.timeout) as answer:  # noqa: S310 - as above
            answer.read(1024)


class Apprise:
    """Whatever Apprise has a URL for."""

    def __init__(self, params: AppriseParams) -> None:
        self._params = params

    def send(self, alert: Alert, event: str) -> None:
        """Send to every URL; raises when one refused."""
        import apprise  # noqa: PLC0415 - it loads a hundred services

        kinds = {"info": "info", "warning": "warning", "critical": "failure"}
        kind: Any = "success" if event == "resolved" else kinds[alert.severity]
        for url in self._params.urls:
            sender = apprise.Apprise()
            if not sender.add(os.path.expandvars(url)):
                raise NotifierError("Apprise does not know this kind of URL", hint="see its list of services")
            if not sender.notify(
                body=alert.runbook or alert.title, title=f"[{event}] {alert.title}"[:250], notify_type=kind
            ):
                raise NotifierError("Apprise could not send; its service refused or is not there")


def _message(alert: Alert, event: str) -> dict[str, Any]:
    return {"event": event, "alert": msgspec.to_builtins(alert)}


def components() -> tuple[Component, ...]:
    """Give the notifiers."""
    return (
        Component(role="notifier", name="log", params=LogParams, build=Log),
        Component(role="notifier", name="webhook", params=WebhookParams, build=Webhook),
        Component(role="notifier", name="apprise", params=AppriseParams, build=Apprise),
    )
