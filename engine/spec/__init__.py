"""Frozen typed specs: the single source of what YAML may say. The JSON Schemas are generated from them."""

from engine.spec.base import Spec, identity, rebuild
from engine.spec.cases import FeatureTestSpec
from engine.spec.features import (
    FEATURE_KINDS,
    EncodedFeature,
    ExpressionFeature,
    FeatureSpec,
    LabelSpec,
    LookupFeature,
    SpineSpec,
    WindowFeature,
)
from engine.spec.pipeline import DaskSpec, ExecuteSpec, PipelineSpec, SettingsSpec, StoresSpec
from engine.spec.sources import Available, DistributionLimit, Expectation, SourceSpec
from engine.spec.training import (
    BaselineSpec,
    CardSpec,
    EvaluateSpec,
    GateSpec,
    RegistrySpec,
    ReportSpec,
    SplitSpec,
    TrainSpec,
)
from engine.spec.triggers import BackoffSpec, BudgetSpec, GuardSpec, RetrainSpec, TriggerSpec

__all__ = [
    "FEATURE_KINDS",
    "Available",
    "BackoffSpec",
    "BaselineSpec",
    "BudgetSpec",
    "CardSpec",
    "DaskSpec",
    "DistributionLimit",
    "EncodedFeature",
    "EvaluateSpec",
    "ExecuteSpec",
    "Expectation",
    "ExpressionFeature",
    "FeatureSpec",
    "FeatureTestSpec",
    "GateSpec",
    "GuardSpec",
    "LabelSpec",
    "LookupFeature",
    "PipelineSpec",
    "RegistrySpec",
    "ReportSpec",
    "RetrainSpec",
    "SettingsSpec",
    "SourceSpec",
    "Spec",
    "SpineSpec",
    "SplitSpec",
    "StoresSpec",
    "TrainSpec",
    "TriggerSpec",
    "WindowFeature",
    "identity",
    "rebuild",
]
