"""Tracker `wandb`: a run becomes one of Weights & Biases, with config, metrics, tags and files; offline it waits for `wandb sync`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.config import resolve_secret
from engine.contracts import MirroredRun
from engine.errors import UnavailableError
from engine.keys import digest

from . import WandbParams


class WandbTracker:
    """Mirrors runs to Weights & Biases."""

    def __init__(self, params: WandbParams) -> None:
        self._params = params

    def mirror(self, run: MirroredRun) -> str:
        """Create or complete the run's mirror and give its id; raises `UnavailableError`."""
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        if self._params.api_key:
            os.environ["WANDB_API_KEY"] = resolve_secret(self._params.api_key)
        try:
            import wandb  # noqa: PLC0415 - only here
        except ImportError as error:
            raise UnavailableError(
                f"wandb cannot be imported: {error}", hint="pip install 'plumbline[wandb]'"
            ) from error
        folder = run.root / self._params.folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return self._mirror(wandb, run, folder)
        except (wandb.errors.Error, OSError) as error:
            raise UnavailableError(f"Weights & Biases: {str(error).splitlines()[0][:300]}") from error

    def _mirror(self, wandb: Any, run: MirroredRun, folder: Path) -> str:
        record = run.record
        ident = digest({"project": run.project, "run": record.run_id, "at": record.started_at})[:16]
        base = {"base_url": self._params.base_url} if self._params.base_url else {}
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            x_disable_stats=True,
            x_disable_meta=True,
            init_timeout=20,
            **base,
        )
        made = wandb.init(
            project=self._params.project or record.pipeline, entity=self._params.entity, mode=self._params.mode, id=ident,
            resume="allow" if self._params.mode == "online" else None, name=f"run {record.run_id}", dir=str(folder),
            config=dict(run.params), tags=sorted(f"{name}={value}"[:64] for name, value in run.tags.items() if name.startswith("tag.")),
            settings=settings,
        )  # fmt: skip
        try:
            for event in run.events:
                if event.event == "metric" and event.step is not None:
                    made.log({f"{event.node}/loss": event.value, "round": event.step})
            made.summary.update(
                {**run.metrics, "status": record.status, "verdict": record.verdict, "model": record.model}
            )
            if self._params.artefacts and run.files:
                held = wandb.Artifact(f"run-{record.run_id}", type="run")
                for path in run.files:
                    held.add_file(str(path), name=path.name)
                made.log_artifact(held)
        finally:
            made.finish(exit_code=0 if record.status == "succeeded" else 1)
        return ident
