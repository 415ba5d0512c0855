"""Where the numbers of a run go: a progress bar for people, JSON lines always, TensorBoard if it is there."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class RunLog:
    """Metrics of one training stage, appended to ``metrics.jsonl`` and shown as one line that moves.

    Args:
        directory: where ``metrics.jsonl`` (and TensorBoard's event file) go.
        title: what the bar is called.
        total: steps in all.
        resumed_at: lines of later steps are dropped: they are about to be computed again.
        console: None writes to the terminal; pass a quiet console to hide the bar.
    """

    def __init__(
        self, directory: Path, title: str, total: int, resumed_at: int = 0, console: Console | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "metrics.jsonl"
        self._drop_after(resumed_at)
        self.progress = Progress(
            TextColumn("[bold]{task.description:<16}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
        )
        self.task = self.progress.add_task(title, total=total, completed=resumed_at, note="")
        self.board = _tensorboard(directory)
        self.file = self.path.open("a")

    def _drop_after(self, step: int) -> None:
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (json.JSONDecodeError, KeyError):
                continue  # a line cut short by a kill
        self.path.write_text("".join(line + "\n" for line in kept))

    def __enter__(self) -> RunLog:
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()
        self.file.close()
        if self.board is not None:
            self.board.close()

    def advance(self, step: int) -> None:
        self.progress.update(self.task, completed=step)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line and refresh the bar; ``total`` and ``data_wait`` are what the bar shows."""
        self.file.write(json.dumps({"step": step, **metrics}) + "\n")
        self.file.flush()
        note = f"loss {metrics['total']:.4g}  data wait {100 * metrics.get('data_wait', 0):.1f}%"
        self.progress.update(self.task, completed=step, note=note)
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(name, value, step)


def _tensorboard(directory: Path):
    if importlib.util.find_spec("tensorboard") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(directory))
