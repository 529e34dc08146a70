"""The rubric: every test judged, sections added up, and the least of them as the score (Breck et al. 2017, table V)."""

from __future__ import annotations

from engine.score import data, infrastructure, model, monitoring
from engine.score.facts import Facts
from engine.score.finding import Question
from engine.score_records import ScoredTest, ScoreReport

QUESTIONS: tuple[Question, ...] = (*data.QUESTIONS, *model.QUESTIONS, *infrastructure.QUESTIONS, *monitoring.QUESTIONS)
SECTIONS = ("data", "model", "infrastructure", "monitoring")

# From the paper: the score's range, and what it means.
_BANDS = (
    (0.0, "more of a research project than a productionised system"),
    (1.0, "not totally untested, but consider that there may be serious holes in reliability"),
    (2.0, "a first pass at basic productionisation, but more investment may be needed"),
    (3.0, "reasonably tested, but more of those tests and procedures may be automated"),
    (5.0, "strong levels of automated testing and monitoring, appropriate for mission-critical systems"),
    (float("inf"), "exceptional levels of automated testing and monitoring"),
)


def score(facts: Facts) -> ScoreReport:
    """Judge all 28 tests."""
    tests = []
    for question in QUESTIONS:
        finding = question.judge(facts)
        tests.append(
            ScoredTest(
                section=question.section,
                number=question.number,
                title=question.title,
                score=float(finding.score),
                found=finding.found,
                add=finding.add if finding.score < 1 else "",
            )
        )
    sections = {name: sum(test.score for test in tests if test.section == name) for name in SECTIONS}
    least = min(sections.values())
    return ScoreReport(
        pipeline=facts.spec.name,
        score=least,
        band=band_of(least),
        sections=sections,
        tests=tuple(tests),
        run_id=facts.latest.run_id if facts.latest else None,
    )


def band_of(value: float) -> str:
    """Say what a score means: each range is open below and closed above, and 0 stands alone.

    >>> band_of(0.0) == band_of(0.5), band_of(5.5)
    (False, 'exceptional levels of automated testing and monitoring')
    """
    return next(words for upto, words in _BANDS if value <= upto)
