"""The words of the expression language: types to cast to, units of intervals, and names refused with advice."""

from __future__ import annotations

CAST_TYPES = {
    "bigint": "i64",
    "int": "i64",
    "integer": "i64",
    "i64": "i64",
    "double": "f64",
    "float": "f64",
    "real": "f64",
    "f64": "f64",
    "varchar": "str",
    "text": "str",
    "string": "str",
    "str": "str",
    "boolean": "bool",
    "bool": "bool",
    "timestamp": "timestamp",
}

INTERVAL_UNITS = {
    "second": 10**6,
    "minute": 60 * 10**6,
    "hour": 3600 * 10**6,
    "day": 86_400 * 10**6,
    "week": 7 * 86_400 * 10**6,
}
"""In microseconds; a plural is understood."""

OTHER_NAMES = {"ceiling": "ceil", "pow": "power"}
"""Functions with a second name."""

AGGREGATES = frozenset(
    {"count", "sum", "avg", "mean", "min", "max", "std", "stddev", "stddev_samp", "var", "variance", "median", "mode"}
    | {"any_value", "first", "last", "array_agg", "string_agg", "quantile", "percentile_cont", "approx_count_distinct"}
)
WINDOW_FUNCTIONS = frozenset(
    {"row_number", "rank", "dense_rank", "lag", "lead", "ntile", "first_value", "last_value", "nth_value"}
)
WINDOW_WORDS = frozenset({"over", "filter", "within"})
MOMENTS = frozenset({"current_timestamp", "current_date", "current_time", "localtimestamp"})
"""Written without parentheses."""
CHANGING = MOMENTS | {"now", "today", "getdate", "random", "rand", "uuid"}
"""Functions whose value differs from run to run."""
QUERY_WORDS = frozenset({"select", "from", "where", "group", "order", "join", "union", "with"})
