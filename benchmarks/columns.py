"""What a table of results is made of: rows from results of one name, columns of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

COUNTS = ("n", "seeds")
"""What a column may read of the results themselves, beside their metrics."""
FARTHER = "-offset-"
"""Between a benchmark's name and the distance of its goals, where that is not its own."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One figure per result."""

    head: str
    metric: str
    """Where in ``metrics`` it is, keys joined by "/", {part} standing for the row's; or one of `COUNTS`."""
    form: str = "{:g}"
    """How a number is written; "percent" writes shares of the trials, "short" two digits or whole numbers."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    label: str
    result: str
    """Name of the results it is made from."""
    part: str = "moderate"
    """Which part of the result the columns read: a test of success, or what was timed."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that share their columns."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    lead: str
    """Head of the first column."""
    about: str = ""
    """A sentence above it, {name} standing for a setting of the results."""
