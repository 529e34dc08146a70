"""From YAML to a typed spec, every mistake at once and each at its place. The only importer of Hydra and OmegaConf.

Names come from their modules when first asked for: all of them take 0.2 s, and a command that only reads one run needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.config.application import SweepFacts, needs_hydra, run_hydra
    from engine.config.composed import ComposedConfig, Origin, attach_places
    from engine.config.composition import compose, list_pipelines
    from engine.config.loading import load_plugins, load_settings, load_spec, shipped_plugins
    from engine.config.schemas import check_schemas, generate_schemas, write_schemas
    from engine.config.secrets import resolve_secret
    from engine.config.several import Composer
    from engine.config.swept import SweptOverride, read_swept

_MODULES = {
    "ComposedConfig": "composed",
    "Composer": "several",
    "Origin": "composed",
    "SweepFacts": "application",
    "SweptOverride": "swept",
    "attach_places": "composed",
    "check_schemas": "schemas",
    "compose": "composition",
    "generate_schemas": "schemas",
    "list_pipelines": "composition",
    "load_plugins": "loading",
    "load_settings": "loading",
    "load_spec": "loading",
    "needs_hydra": "application",
    "read_swept": "swept",
    "resolve_secret": "secrets",
    "run_hydra": "application",
    "shipped_plugins": "loading",
    "write_schemas": "schemas",
}


def __getattr__(name: str) -> Any:
    """Give a name of this package from the module that holds it; raises `AttributeError`."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found


__all__ = [
    "ComposedConfig",
    "Composer",
    "Origin",
    "SweepFacts",
    "SweptOverride",
    "attach_places",
    "check_schemas",
    "compose",
    "generate_schemas",
    "list_pipelines",
    "load_plugins",
    "load_settings",
    "load_spec",
    "needs_hydra",
    "read_swept",
    "resolve_secret",
    "run_hydra",
    "shipped_plugins",
    "write_schemas",
]
