"""What the doctor found, in words a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Severity = Literal["fault", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, doubtful, or worth knowing.

    A "fault" spoils training or stops it, a "warning" wants a look, a "note" is information.
    """

    severity: Severity
    check: str
    """Which check: "frames", "clock", "rate", "offset", "lag", "dead", "finite", "duplicate", "readable",
    "split", "statistics", "units", "absent", "index", "gaps", "span"."""
    found: str
    expected: str
    advice: str
    episode: str | None = None
    """Name of the episode; None if it concerns the whole set."""
    stream: str | None = None


@dataclass
class Report:
    """All findings about one data set, and how closely it was looked at."""

    path: Path
    format: str = "unknown"
    num_episodes: int = 0
    num_examined: int = 0
    num_frames_decoded: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, *findings: Finding) -> None:
        self.findings += findings

    def of(self, severity: Severity) -> list[Finding]:
        return [f for f in self.findings if f.severity == severity]

    @property
    def sound(self) -> bool:
        """Whether there is no fault."""
        return not self.of("fault")

    def groups(self) -> Iterator[tuple[Finding, list[str]]]:
        """Findings, worst first, those that differ only in the episode joined: (the first, all episodes)."""
        for severity in SEVERITIES:
            alike: dict[tuple, list[Finding]] = {}
            for f in self.of(severity):
                alike.setdefault((f.check, f.stream, f.advice), []).append(f)
            for found in alike.values():
                yield found[0], [f.episode for f in found if f.episode is not None]

    def to_json(self) -> dict[str, Any]:
        about = {k: v for k, v in vars(self).items() if k not in ("path", "findings")}
        return {**about, "sound": self.sound, "findings": [asdict(f) for f in self.findings]}
