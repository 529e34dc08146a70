"""From YAML to a typed spec, every mistake at once and each at its place. The only importer of Hydra and OmegaConf."""

from engine.config.application import SweepFacts, needs_hydra, run_hydra
from engine.config.composed import ComposedConfig, Origin, attach_places
from engine.config.composition import compose, list_pipelines
from engine.config.loading import load_plugins, load_settings, load_spec, shipped_plugins
from engine.config.schemas import check_schemas, generate_schemas, write_schemas
from engine.config.secrets import resolve_secret
from engine.config.several import Composer
from engine.config.swept import SweptOverride, read_swept

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
