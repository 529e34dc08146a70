"""Every private name of Hydra that the engine uses, in one place.

`tests/config/test_hydra_contract.py` holds each of them, and `pyproject.toml` pins the minor version. Importing this
module costs a quarter of a second: import it late.
"""

from __future__ import annotations

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import _run_hydra as run_hydra_application
from hydra._internal.utils import get_args_parser
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault, ResultDefault
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin

VERSION_BASE = "1.3"

apply_overrides = ConfigLoaderImpl._apply_overrides_to_config  # noqa: SLF001 - held by the contract test
embed_in_package = ConfigLoaderImpl._embed_result_config  # noqa: SLF001

__all__ = [
    "VERSION_BASE",
    "ConfigDefault",
    "ConfigLoadError",
    "ConfigRepository",
    "ConfigResult",
    "ConfigSource",
    "GroupDefault",
    "HydraConfig",
    "HydraException",
    "InputDefault",
    "ObjectType",
    "Override",
    "OverrideParseException",
    "OverrideType",
    "OverridesParser",
    "Plugins",
    "ResultDefault",
    "SearchPathPlugin",
    "apply_overrides",
    "create_defaults_list",
    "embed_in_package",
    "get_args_parser",
    "run_hydra_application",
    "version",
]
