"""The page of a backtest: which policy is worth having, quality and regret over time, retrainings, cost, every decision.

Enters: a `BacktestResult`. Leaves: HTML that needs no network and no script, the same bytes for the same result. Written to
`runs/backtest/<pipeline>/report.html`.
"""

from __future__ import annotations

from datetime import datetime

from engine.backtest_records import BacktestDecision, BacktestResult, Estimate, PolicyOutcome
from engine.report.axes import Plot, Scale, draw_axes, pad_domain
from engine.report.blocks import Row, absent, figure, folded, name_columns, paragraph, section, table
from engine.report.charts import picture
from engine.report.document import COMPLETE, Heading, render_document
from engine.report.markup import Markup, element, join, text
from engine.report.numbers import format_interval, format_number, format_seconds, plural
from engine.report.overtime import Mark, Span, Track, curves_over_time, lanes

ALWAYS = "always"


def render_backtest(result: BacktestResult) -> str:
    """Render the page."""
    sections = (
        ("summary", "Summary", _summary(result)),
        ("quality", "Quality over time", _quality(result)),
        ("retrainings", "Retrainings", _retrainings(result)),
        ("regret", "Regret", _regret(result)),
        ("cost", "Cost against regret", _cost(result)),
        ("decisions", "Decisions", _decisions(result)),
        ("how", "How to read this", _how(result)),
    )
    heading = Heading(
        title=f"{result.pipeline}: backtest of {plural(len(result.policies), 'policy').replace('policys', 'policies')}",
        kicker=f"Backtest, {result.start[:10]} to {result.end[:10]}, a decision every {result.every}",
        name=result.pipeline,
    )
    return render_document(heading, sections, COMPLETE)


def headline(result: BacktestResult) -> str:
    """Say in a sentence which policy is worth having.

    The recommended one is the cheapest whose regret cannot be told from none.
    """
    always = next((policy for policy in result.policies if policy.name == ALWAYS), None)
    best = next((policy for policy in result.policies if policy.name == result.recommended), None)
    if always is None or best is None:
        return "Nothing could be compared."
    if best.name == ALWAYS:
        return f"Only retraining always keeps {result.metric} where it is: every cheaper policy does measurably worse."
    regret = f"{format_number(best.regret.value, 4, signed=True)} {_range(best.regret, signed=True)}"
    cost = f", {best.cpu_share:.0%} of the training time" if best.cpu_share is not None else ""
    return (
        f"`{best.name}` is the cheapest policy that cannot be told from retraining always: regret {regret} of {result.metric}, "
        f"with {plural(best.retrainings, 'retraining')} instead of {always.retrainings}{cost}.{_ties(result, best)}"
    )


def _ties(result: BacktestResult, best: PolicyOutcome) -> str:
    """Name the policies that the same rows do not tell from the recommended one: their intervals of regret overlap."""
    tied = [
        f"`{policy.name}`"
        for policy in result.policies
        if policy.name not in {ALWAYS, best.name} and _overlap(policy.regret, best.regret)
    ]
    if not tied:
        return ""
    named = f"{', '.join(tied[:-1])} and {tied[-1]}" if len(tied) > 1 else tied[0]
    return f" In quality it is a tie with {named}: their intervals overlap, and cost alone decides."


def _overlap(one: Estimate, other: Estimate) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def _summary(result: BacktestResult) -> Markup:
    banner = element(
        "div", {"class": "banner verdict-good" if result.recommended != ALWAYS else "banner verdict-unsure"},
        element("p", {"class": "ruling"}, text(result.recommended or "no policy")), paragraph(text(headline(result))),
    )  # fmt: skip
    titles = [
        "Policy",
        result.metric,
        "interval",
        "regret",
        "regret interval",
        "retrained",
        "promoted",
        "refused",
        "CPU time",
        "of always",
    ]
    rows = [
        Row.of(
            text(policy.name),
            text(format_number(policy.quality.value, 4)),
            text(_range(policy.quality)),
            text(format_number(policy.regret.value, 4, signed=True)),
            text(_range(policy.regret, signed=True)),
            text(policy.retrainings),
            text(policy.promotions),
            text(policy.refused),
            text(format_seconds(policy.cpu_seconds)),
            text("–" if policy.cpu_share is None else f"{policy.cpu_share:.0%}"),
            css="group" if policy.name == result.recommended else None,
        )
        for policy in result.policies
    ]
    better = "higher" if result.higher_is_better else "lower"
    caption = f"{result.rows:,} labelled rows in {plural(len(result.policies[0].periods), 'period')}; {better} {result.metric} is better"
    return section(
        "summary",
        "Which policy is worth having",
        banner,
        table(caption, name_columns(titles, set(titles[1:])), rows, stack=False),
    )


def _range(estimate: Estimate, *, signed: bool = False) -> str:
    return format_interval(estimate.low, estimate.high, signed=signed) if estimate.low is not None else "–"


def _span(result: BacktestResult) -> Span:
    return Span(datetime.fromisoformat(result.start), datetime.fromisoformat(result.end))


def _middle(start: str, end: str) -> datetime:
    first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    return first + (last - first) / 2


def _marks(policy: PolicyOutcome) -> list[Mark]:
    return [
        Mark(
            datetime.fromisoformat(item.at),
            item.promoted,
            f"{policy.name}, {item.at[:10]}: {_came(item)}; {item.why[:160]}",
        )
        for item in policy.decisions
        if item.trained is not None
    ]


def _came(item: BacktestDecision) -> str:
    """Say what came of a decision."""
    if item.trained is None:
        return item.action
    return "retrained and promoted" if item.promoted else f"retrained, {item.verdict}"


def _quality(result: BacktestResult) -> Markup:
    tracks = []
    for look, policy in enumerate(result.policies):
        known = [(period, period.quality) for period in policy.periods if period.quality.value is not None]
        points = [(_middle(period.start, period.end), quality.value or 0.0) for period, quality in known]
        band = [
            (_middle(period.start, period.end), quality.low, quality.high)
            for period, quality in known
            if policy.name == ALWAYS and quality.low is not None and quality.high is not None
        ]
        marks = [mark for mark in _marks(policy) if policy.name != ALWAYS]
        tracks.append(Track(policy.name, look, points, marks, "", band))
    words = (
        f"{result.metric} by period",
        result.metric,
        "one curve a policy; dots are retrainings that were promoted, rings those that were not",
    )
    drawn = curves_over_time(words, _span(result), tracks)
    caption = "The shaded band is the interval of retraining always. Dots: a retraining was promoted; rings: its challenger was refused."
    return section("quality", "Quality over time", figure(drawn, caption))


def _retrainings(result: BacktestResult) -> Markup:
    tracks = [
        Track(
            policy.name, look, (), _marks(policy),
            f"{policy.retrainings} retrained, {policy.promotions} promoted, {format_seconds(policy.cpu_seconds)} CPU",
        )
        for look, policy in enumerate(result.policies)
    ]  # fmt: skip
    drawn = lanes(("When each policy retrained", "one lane a policy"), _span(result), tracks)
    return section(
        "retrainings", "Retrainings", figure(drawn, "Filled: promoted. Ring: refused by a gate. Hover for the reason.")
    )


def _regret(result: BacktestResult) -> Markup:
    tracks = []
    whole = sum(period.rows for period in result.policies[0].periods) or 1
    for look, policy in enumerate(result.policies):
        if policy.name == ALWAYS:
            continue
        sum_, points = 0.0, [(datetime.fromisoformat(result.start), 0.0)]
        for period in policy.periods:
            sum_ += (period.regret.value or 0.0) * period.rows / whole
            points.append((datetime.fromisoformat(period.end), sum_))
        tracks.append(Track(policy.name, look, points))
    words = ("Regret as it adds up", f"regret of {result.metric}", "one curve a policy; it ends at the policy's regret")
    caption = (
        "Each period adds its regret, weighted by its rows: a flat line loses nothing, a steep one is losing now, a falling "
        "one does better than always."
    )
    return section(
        "regret",
        "Regret against retraining always",
        figure(curves_over_time(words, _span(result), tracks, zero=True), caption),
    )


def _cost(result: BacktestResult) -> Markup:
    shown = [(look, policy) for look, policy in enumerate(result.policies) if policy.regret.value is not None]
    if not shown:
        return section("cost", "Cost against regret", absent("No policy could be measured."))
    ends = [end for _, policy in shown for end in (policy.regret.low, policy.regret.high, 0.0)]
    low, high = pad_domain(ends, 0.1)
    most = max(policy.cpu_seconds for _, policy in shown) or 1.0
    plot = Plot(Scale(-0.04 * most, most * 1.12, 62.0, 348.0), Scale(low, high, 250.0, 30.0))
    parts = [draw_axes(plot, ("CPU seconds of retraining", f"regret of {result.metric}"))]
    parts.append(element("line", {"class": "reference", "x1": 62.0, "x2": 348.0, "y1": plot.y(0.0), "y2": plot.y(0.0)}))
    taken: list[tuple[float, float]] = []
    for look, policy in shown:
        x, y = plot.x(policy.cpu_seconds), plot.y(policy.regret.value or 0.0)
        label = element("text", {"class": "tick", **_free_place(x, y, taken)}, text(policy.name))
        whisker = element("line", {
            "class": "whisker", "x1": x, "x2": x, "y1": plot.y(policy.regret.low or 0.0), "y2": plot.y(policy.regret.high or 0.0),
        })  # fmt: skip
        dot = element("circle", {"class": "dot", "cx": x, "cy": y, "r": 4.5})
        words = f"{policy.name}: {policy.cpu_seconds:.1f} CPU s, regret {policy.regret.value:+.4f} {_range(policy.regret, signed=True)}"
        parts.append(
            element("g", {"style": Track("", look).style}, element("title", {}, text(words)), whisker, dot, label)
        )
    drawn = picture("Cost against regret", "one point a policy, with the interval of its regret", 290.0, parts)
    body = element(
        "div", {"class": "charts two"}, figure(drawn, "Low and left is what one wants. Bars: intervals of the regret.")
    )
    return section("cost", "Cost against regret", body)


def _free_place(x: float, y: float, taken: list[tuple[float, float]]) -> dict[str, float]:
    """Find a place for a label beside a point where none is yet; remembers it."""
    x, y = min(x + 7, 290.0), y - 6
    while any(abs(x - other[0]) < 62 and abs(y - other[1]) < 12 for other in taken):
        y -= 12
    taken.append((x, y))
    return {"x": x, "y": y}


def _decisions(result: BacktestResult) -> Markup:
    blocks = []
    for policy in result.policies:
        told = [item for item in policy.decisions if item.action != "nothing"]
        quiet = len(policy.decisions) - len(told)
        rows = [
            Row.of(text(item.at[:10]), text(item.action), text(_came(item)), text(item.why), text(_gates(item)))
            for item in told
        ]
        titles = ["At", "Decision", "What came of it", "Why", "Gates that did not pass"]
        listed = (
            table(f"{policy.name}: {_declared(policy)}", name_columns(titles), rows)
            if rows
            else absent("It never did anything.")
        )
        words = f"{policy.name}: {plural(len(told), 'decision')} to act, {quiet} to do nothing"
        blocks.append(folded(words, listed))
    return section("decisions", "Decisions", join(blocks))


def _gates(item: BacktestDecision) -> str:
    return "; ".join(f"{name}: {why}" for name, why in item.failed_gates.items())


def _declared(policy: PolicyOutcome) -> str:
    if not policy.triggers:
        return "no triggers"
    return "; ".join(
        f"{name}: {', '.join(f'{key} {value}' for key, value in trigger.items())}"
        for name, trigger in policy.triggers.items()
    )


def _how(result: BacktestResult) -> Markup:
    lines = [
        (
            "At each moment a policy's triggers were asked by the code of `engine tick`, and saw what was known then: rows "
            "before it, labels that had come, readings of chunks that had ended. So did trainings and gates."
        ),
        (
            f"Quality is the mean of the periods' {result.metric}, weighted by rows, on labels as they became known in the "
            "end. Regret is how much worse than retraining always, on the same rows; intervals "
            f"({result.level:.0%}) are percentiles of a paired bootstrap within each period. They tell of the luck of these "
            "labels; another history may differ by more."
        ),
        (
            "CPU time is that of the retrainings, as measured when they were computed; the first model, which all share, is "
            "not counted."
        ),
        *(f"{note[0].upper()}{note[1:]}." for note in result.notes),
    ]
    gates = f"Gates replayed: {', '.join(result.gates_replayed) or 'none'}."
    left = [f"{name} ({why})" for name, why in result.gates_left_out.items()]
    lines.append(gates + (f" Not replayed: {'; '.join(left)}." if left else ""))
    return section("how", "How to read this", *(paragraph(text(line)) for line in lines))
