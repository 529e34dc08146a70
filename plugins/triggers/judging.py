"""What each trigger says of a view; pure. A cursor holds only JSON, and a trigger reads nothing but its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

import msgspec

from engine.clock import isoformat
from engine.durations import microseconds
from engine.evaluation.names import METRIC_NAMES
from engine.keys import Json, digest
from engine.loop.slots import Schedule, latest_slot, slots_between
from engine.loop_contracts import Measured, Opinion, View, fires, quiet

from . import (
    CombinedParams,
    CronParams,
    DataCommitParams,
    DriftParams,
    ManualParams,
    NewLabelsParams,
    PerformanceParams,
    QualityParams,
    StalenessParams,
    _Windowed,
)

_PERFORMANCE = {False: "performance", True: "estimated"}
_DRIFT = {"input": ("drift", "multivariate"), "output": ("prediction",), "concept": ("concept",)}


class Cron:
    """See `CronParams`. The cursor is the last slot seen, and never goes back, whatever the clock does."""

    def __init__(self, params: CronParams) -> None:
        self._params = params
        self._schedule = Schedule(params.schedule, params.timezone)

    def judge(self, view: View) -> Opinion:
        """Fire for slots since the cursor; a trigger seen for the first time starts now."""
        seen = _moment(view.cursor.get("slot"))
        if seen is None:
            return quiet("seen for the first time: it starts now", {"slot": isoformat(view.now)})
        newest = latest_slot(self._schedule, view.now)
        if newest is None or newest <= seen:
            return quiet(f"no slot since {isoformat(seen)}", view.cursor)
        most = self._params.most if self._params.misfire == "all" else 1
        slots = slots_between(self._schedule, seen, view.now, most)
        if self._params.misfire == "all":  # one at a time: the others fire at the ticks that follow
            slots = slots[:1]
        slot = slots[-1]
        cursor: Mapping[str, Json] = {"slot": isoformat(slot)}
        late = view.now - slot
        if self._params.misfire == "skip" and late > timedelta(microseconds=microseconds(self._params.grace)):
            return quiet(f"the slot {isoformat(slot)} is {late} old, more than the grace", cursor)
        every = self._params.misfire == "all"
        return replace(fires(f"the slot {isoformat(slot)} came", isoformat(slot), cursor), patient=every)


class _OverReadings:
    """Fires when `k` of the last `n` chunks are bad, and again only after a good one, or when it has stayed bad for long.

    The cursor says which model it fired for: what another model did is no reason to be quiet about this one.
    """

    def __init__(self, params: _Windowed) -> None:
        self._params = params

    def judge(self, view: View) -> Opinion:
        """Look at the newest chunks."""
        chunks = _by_chunk([item for item in view.readings if self._concerns(item)])
        usable = [(until, group) for until, group in chunks if _large(group, self._params.min_rows)]
        if not usable:
            small = f"; {len(chunks)} with too few rows" if chunks else ""
            return quiet(f"no chunk that could say something{small}", view.cursor)
        recent = usable[-self._params.n :]
        bad = [(until, [item for item in group if self._is_bad(item)]) for until, group in recent]
        count = sum(bool(items) for _, items in bad)
        until, latest = usable[-1]
        version = view.serving.version if view.serving is not None else None
        inside = bool(view.cursor.get("inside")) and view.cursor.get("version") == version
        if inside and all(self._is_over(item) for item in latest):
            return quiet(f"over: {self._told(latest)}", {"inside": False, "until": isoformat(until)})
        words = f"{count} of the last {len(recent)} chunks, {self._params.k} are needed"
        if count < self._params.k:
            return quiet(f"{words}; newest {isoformat(until)}: {self._told(latest)}", view.cursor)
        if inside and not (bad[-1][1] and self._is_long_ago(view, until)):
            return quiet(f"fired before, and it is not over: {self._told(latest)}", view.cursor)
        worst = [item for _, items in bad for item in items]
        cursor: Mapping[str, Json] = {
            "inside": True, "until": isoformat(until), "version": version, "fired": isoformat(view.now),
        }  # fmt: skip
        opinion = fires(f"{words}: {self._told(worst)}", f"{version} {isoformat(until)}", cursor)
        return replace(opinion, since=self._began(usable))

    def _began(self, usable: Sequence[tuple[datetime, Sequence[Measured]]]) -> datetime | None:
        """Give the beginning of the first chunk since which every one was bad; good ones among the `n` do not end it."""
        began, good = None, 0
        for _, group in reversed(usable):
            if any(self._is_bad(item) for item in group):
                began, good = group[0].since or began, 0
            else:
                good += 1
            if good > self._params.n - self._params.k:
                break
        return began

    def _is_long_ago(self, view: View, until: datetime) -> bool:
        """Say whether it fired so long ago that it may again, for chunks that it has not fired for."""
        fired, seen = _moment(view.cursor.get("fired")), _moment(view.cursor.get("until"))
        if self._params.again is None or fired is None or (seen is not None and until <= seen):
            return False
        return view.now - fired >= timedelta(microseconds=microseconds(self._params.again))

    def _told(self, items: Sequence[Measured]) -> str:
        shown = sorted(items, key=lambda item: (item.status != "alarm", -abs(self._size(item) or 0.0)))[:3]
        said = [f"{item.what} {_number(self._size(item)) or item.status}" for item in shown]
        return ", ".join(said) + (f" and {len(items) - 3} more" if len(items) > 3 else "")

    def _size(self, item: Measured) -> float | None:
        return item.value

    def _concerns(self, item: Measured) -> bool:
        return item.kind == "quality"

    def _is_bad(self, item: Measured) -> bool:
        return item.status == "alarm"

    def _is_over(self, item: Measured) -> bool:
        return not self._is_bad(item)


class Drift(_OverReadings):
    """See `DriftParams`."""

    def __init__(self, params: DriftParams) -> None:
        super().__init__(params)
        self._of = params

    def _concerns(self, item: Measured) -> bool:
        columns = self._of.columns
        named = not columns or item.what in columns or item.status in {"insufficient_data", "broken"}
        return item.kind in _DRIFT[self._of.of] and named and item.slice == self._of.slice

    def _size(self, item: Measured) -> float | None:
        return item.sizes.get(self._of.measure)

    def _is_bad(self, item: Measured) -> bool:
        if self._of.enter is None:
            return item.status == "alarm"
        size = self._size(item)
        return size is not None and size >= self._of.enter

    def _is_over(self, item: Measured) -> bool:
        """What has no such size, as a correlation has no PSI, is neither bad nor keeps it from being over."""
        size = self._size(item)
        if self._of.enter is None:
            return item.status != "alarm"
        return size is None or size < (self._of.enter if self._of.exit is None else self._of.exit)


class Performance(_OverReadings):
    """See `PerformanceParams`."""

    def __init__(self, params: PerformanceParams) -> None:
        super().__init__(params)
        self._of = params

    def judge(self, view: View) -> Opinion:
        """As for other readings; a `drop` is held against what was recorded with the model in production."""
        metric, drop = self._of.metric, self._of.drop
        if metric is None or drop is None:
            return super().judge(view)
        reached = view.serving.metrics.get(metric) if view.serving is not None else None
        if reached is None:
            return quiet(f"what {metric} the model reached on its own test rows was not recorded", view.cursor)
        limits = {"minimum": reached - drop} if METRIC_NAMES[metric].higher_is_better else {"maximum": reached + drop}
        found = Performance(msgspec.structs.replace(self._of, drop=None, **limits)).judge(view)
        return replace(found, why=f"{found.why}; it reached {reached:.4f} when it was tested, {drop:g} less is allowed")

    def _concerns(self, item: Measured) -> bool:
        named = self._of.metric is None or item.what == self._of.metric
        return item.kind == _PERFORMANCE[self._of.estimated] and named and item.slice == self._of.slice

    def _is_bad(self, item: Measured) -> bool:
        return self._beyond(item, 0.0)

    def _is_over(self, item: Measured) -> bool:
        return item.status in {"ok", "alarm"} and not self._beyond(item, self._of.margin)

    def _beyond(self, item: Measured, margin: float) -> bool:
        if self._of.minimum is None and self._of.maximum is None:
            return item.status == "alarm"
        if item.value is None:
            return False
        if self._of.minimum is not None:
            return item.value < self._of.minimum + margin
        return self._of.maximum is not None and item.value > self._of.maximum - margin


class Quality(_OverReadings):
    """See `QualityParams`. It asks for diagnostics: a model that learns from broken data makes the damage last."""

    def __init__(self, params: QualityParams) -> None:
        super().__init__(params)

    def judge(self, view: View) -> Opinion:
        """As for other readings, with another intent."""
        found = super().judge(view)
        return replace(found, intent="diagnose")


class NewLabels:
    """See `NewLabelsParams`."""

    def __init__(self, params: NewLabelsParams) -> None:
        self._params = params

    def judge(self, view: View) -> Opinion:
        """Compare the labels now with those of the model in production, or with those that it last fired for."""
        if view.labels is None:
            return quiet("how many labels there are is not known", view.cursor)
        fired = view.cursor.get("labels")
        before = max(
            fired if isinstance(fired, int) else 0, (view.serving.labels or 0) if view.serving is not None else 0
        )
        new = view.labels - before
        needed = self._params.rows if self._params.rows is not None else before * (self._params.fraction or 0.0)
        words = f"{new:,} labels more than {before:,}; {max(needed, 1):,.0f} are needed"
        if new < max(needed, 1):
            return quiet(words, view.cursor)
        return fires(words, f"{view.labels} labels", {"labels": view.labels})


class DataCommit:
    """See `DataCommitParams`."""

    def __init__(self, params: DataCommitParams) -> None:
        self._params = params

    def judge(self, view: View) -> Opinion:
        """Compare what the sources hold with what they held."""
        wanted = self._params.sources or tuple(sorted(view.content))
        now = {name: view.content[name] for name in wanted if name in view.content}
        seen: Any = view.cursor.get("content")
        if not now:
            return quiet("nothing has been ingested yet", view.cursor)
        if not isinstance(seen, Mapping):
            return quiet("seen for the first time: it starts from what is there", {"content": now})
        changed = sorted(name for name in now if now[name] != seen.get(name))
        if not changed:
            return quiet("no source changed", view.cursor)
        return fires(f"new data: {', '.join(changed)}", digest(dict(now)), {"content": now})


class Staleness:
    """See `StalenessParams`."""

    def __init__(self, params: StalenessParams) -> None:
        self._params = params

    def judge(self, view: View) -> Opinion:
        """Compare the model's age with the limit; fires once a limit's length, so that a rejected model is tried again."""
        if view.serving is None:
            return quiet("no model is in production", view.cursor)
        since = view.serving.promoted_at if self._params.since == "promotion" else view.serving.trained_until
        if since is None:
            return quiet("how new its data is was not recorded", view.cursor)
        limit = timedelta(microseconds=microseconds(self._params.older_than))
        last = _moment(view.cursor.get("fired"))
        age = view.now - max(since, last or since)
        words = (
            f"version {view.serving.version} is {_days(view.now - since)} old, the limit is {self._params.older_than}"
        )
        if age <= limit:
            return quiet(words, view.cursor)
        return fires(words, f"{view.serving.version}@{isoformat(view.now)}", {"fired": isoformat(view.now)})


class Manual:
    """See `ManualParams`: what a person asks for comes by another way."""

    def __init__(self, params: ManualParams) -> None:
        del params

    def judge(self, view: View) -> Opinion:
        """Never fire."""
        return quiet("only `engine triggers fire` fires it", view.cursor)


class _Combined:
    def __init__(self, params: CombinedParams) -> None:
        self._params = params

    def _recent(self, view: View) -> dict[str, str]:
        """The parts that fire now, or fired within the time, with their occasions."""
        kept: dict[str, str] = {}
        limit = view.now - timedelta(microseconds=microseconds(self._params.within))
        for name in self._params.triggers:
            opinion, before = view.opinions.get(name), view.cursor.get(name)
            if opinion is not None and opinion.fired:
                kept[name] = f"{isoformat(view.now)} {opinion.occasion}"
            elif isinstance(before, str) and (_moment(before.split(" ", 1)[0]) or limit) > limit:
                kept[name] = before
        return kept


class AnyOf(_Combined):
    """See `CombinedParams`."""

    def judge(self, view: View) -> Opinion:
        """Fire with the first that does."""
        fired = [name for name in self._params.triggers if name in view.opinions and view.opinions[name].fired]
        if not fired:
            return quiet(f"none of {', '.join(self._params.triggers)} fires", {})
        occasions: Json = {name: view.opinions[name].occasion for name in fired}
        return fires("; ".join(f"{name}: {view.opinions[name].why}" for name in fired), digest(occasions), {})


class AllOf(_Combined):
    """See `CombinedParams`."""

    def judge(self, view: View) -> Opinion:
        """Fire when every part has, and forget them then."""
        recent = self._recent(view)
        missing = [name for name in self._params.triggers if name not in recent]
        if missing:
            return quiet(f"still to fire: {', '.join(missing)}", dict(recent))
        occasions: Json = {name: recent[name].split(" ", 1)[1] for name in recent}
        return fires(f"all of {', '.join(self._params.triggers)} fired", digest(occasions), {})


def _by_chunk(readings: Sequence[Measured]) -> list[tuple[datetime, list[Measured]]]:
    groups: dict[datetime, list[Measured]] = {}
    for item in readings:
        groups.setdefault(item.until, []).append(item)
    return sorted(groups.items(), key=itemgetter(0))


def _large(group: Sequence[Measured], min_rows: int) -> bool:
    return any(item.status in {"ok", "alarm"} and item.rows >= min_rows for item in group)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _moment(value: Json | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.1f} days"
