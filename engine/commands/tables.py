"""Plain-text tables for terminals: aligned columns, numbers to the right, no dependency."""

from __future__ import annotations

from collections.abc import Sequence

Cell = str | int | float | None


def render_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Lay rows out under headers.

    >>> print(render_table(["run", "auc"], [["1", 0.7312], ["12", None]]))
    run     auc
    ---  ------
    1    0.7312
    12        -
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    numeric = [
        any(isinstance(row[i], int | float) for row in rows) and all(not isinstance(row[i], str) for row in rows)
        for i in range(len(headers))
    ]
    widths = [max([len(header), *(len(row[i]) for row in texts)]) for i, header in enumerate(headers)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            f"{cell:>{w}}" if right else f"{cell:<{w}}" for cell, w, right in zip(cells, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *(line(row) for row in texts)])


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
