"""The verdict: all gates' results as one word.

Enters: gate results. Leaves: `promote`, `reject` or `inconclusive`. Called by the `gate` node.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.records import GateResult, Verdict


def decide_verdict(results: Sequence[GateResult]) -> Verdict:
    """Add verdicts up; only gates with the severity `block` count.

    A blocking failure rejects. Else a blocking gate that could not tell is inconclusive. So is a pipeline without a
    single blocking gate: nothing has been shown, and a model is not promoted for want of a question.

    >>> passed = GateResult(name="a", kind="min_rows", status="pass")
    >>> decide_verdict([passed]), decide_verdict([])
    ('promote', 'inconclusive')
    """
    statuses = {result.status for result in results if result.severity == "block"}
    if "fail" in statuses:
        return "reject"
    return "promote" if statuses == {"pass"} else "inconclusive"
