"""Bodies of nodes: each reads its inputs' files, writes its own, and returns notes. Named here, imported where they run."""

from collections.abc import Mapping

# Kind of node -> "module:function". Strings, so that planning imports no data library.
BODIES: Mapping[str, str] = {
    "ingest": "engine.nodes.ingest:ingest",
    "checkout": "engine.nodes.ingest:checkout",
    "features": "engine.nodes.features:compute_features",
    "split": "engine.nodes.split:split_rows",
    "train": "engine.nodes.train:train_model",
    "tune": "engine.nodes.tune:tune_model",
    "evaluate": "engine.nodes.evaluate:evaluate_models",
    "probe.behaviour": "engine.nodes.probe_behaviour:probe_behaviour",
    "probe.leakage": "engine.nodes.probe_leakage:probe_leakage",
    "probe.training": "engine.nodes.probe_training:probe_training",
    "probe.latency": "engine.nodes.probe_latency:probe_latency",
    "probe.size": "engine.nodes.probe_latency:probe_size",
    "probe.columns": "engine.nodes.probe_columns:probe_columns",
    "probe.parity": "engine.nodes.probe_parity:probe_parity",
    "fit": "engine.nodes.fit:fit_model",
    "analysis": "engine.nodes.analysis:analyse",
    "gate": "engine.nodes.gate:judge",
    "package": "engine.nodes.package:package_model",
}
