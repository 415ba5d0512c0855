"""Where the numbers of a run go: a progress bar for people, JSON lines always, TensorBoard if it is there."""

from __future__ import annotations

import importlib.util
import json
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from forerun.checkpoint import storage_error, write_text
from forerun.types import StorageError


class RunLog:
    """Metrics of one training stage, appended to ``metrics.jsonl`` and shown as one line that moves.

    Args:
        directory: where ``metrics.jsonl`` (and TensorBoard's event file) go.
        title: what the bar is called.
        total: steps in all.
        resumed_at: lines of later steps are dropped: they are about to be computed again.
        console: None writes to the terminal; pass a quiet console to hide the bar.

    Raises:
        StorageError: the folder or the file cannot be written.
    """

    def __init__(
        self, directory: Path, title: str, total: int, resumed_at: int = 0, console: Console | None = None
    ) -> None:
        self.directory, self.path, self.resumed_at = directory, directory / "metrics.jsonl", resumed_at
        self.last: dict[str, float] = {}
        """The newest line without its step, also of an earlier run; empty if there is none."""
        self.progress = Progress(
            TextColumn("[bold]{task.description:<18}"),
            BarColumn(bar_width=10),
            TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
        )
        self.task = self.progress.add_task(title, total=total, completed=resumed_at, note="")

    def __enter__(self) -> RunLog:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._drop_after(self.resumed_at)
            self.file = self.path.open("a")
        except OSError as cause:
            raise cause if isinstance(cause, StorageError) else storage_error(cause, self.path) from cause
        self.board = _tensorboard(self.directory, self.resumed_at)
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()
        with suppress(OSError):  # a full disk has been reported by `write`
            self.file.close()
        if self.board is not None:
            self.board.close()

    def _drop_after(self, step: int) -> None:
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(errors="replace").splitlines():
            try:
                values = json.loads(line)
                if values["step"] <= step:
                    kept.append(line)
                    self.last = {k: v for k, v in values.items() if k != "step"}
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # a line cut short by a kill
        write_text(self.path, "".join(line + "\n" for line in kept))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line and refresh the bar; ``total`` and ``data_wait`` are what the bar shows."""
        try:
            self.file.write(json.dumps({"step": step, **metrics}) + "\n")
            self.file.flush()
        except OSError as cause:
            raise storage_error(cause, self.path) from cause
        self.last = metrics
        note = f"loss {metrics['total']:.4g}  wait {100 * metrics.get('data_wait', 0):.1f}%"
        self.progress.update(self.task, completed=step, note=note)
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(name, value, step)


def _tensorboard(directory: Path, resumed_at: int) -> Any:
    """TensorBoard's writer, or None where it is not installed; its own deprecations are not ours to show."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(directory), purge_step=resumed_at + 1 if resumed_at else None)
