"""One loop for everything that learns: kill it anywhere, the same command continues bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forerun import checkpoint
from forerun.training import log
from forerun.training.learner import Learner
from forerun.training.trainer import TrainConfig, schedule, train
from forerun.types import CheckpointError, ConfigError, DataError, StorageError
from toy_learner import CONFIG, ToyLearner, run

TIMING = ("steps_per_s", "data_wait")


def lines(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def curve(directory: Path) -> list[dict[str, float]]:
    """Every logged number that must not depend on interruptions."""
    return [{k: v for k, v in line.items() if k not in TIMING} for line in lines(directory)]


def weights(learner: ToyLearner) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in learner.module.state_dict().items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    directory, learner = tmp_path_factory.mktemp("uninterrupted"), ToyLearner()
    run(learner, directory)
    return directory, weights(learner)


def test_after_kill_9_the_same_command_continues_bit_for_bit(tmp_path: Path, uninterrupted: Any) -> None:
    command = [sys.executable, str(Path(__file__).with_name("toy_learner.py")), str(tmp_path), "0.02"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=env)
    try:
        deadline = time.monotonic() + 60
        while not steps_logged(tmp_path) >= 33:
            assert time.monotonic() < deadline
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    _, about = checkpoint.load(tmp_path / "checkpoint")
    assert 30 <= about["step"] < 60
    subprocess.run(command, env=env, check=True, timeout=60)
    assert curve(tmp_path) == curve(uninterrupted[0])
    tensors, about = checkpoint.load(tmp_path / "checkpoint")
    assert about["step"] == 60
    assert_equal({k[7:]: v for k, v in tensors.items() if k.startswith("module.")}, uninterrupted[1])


def steps_logged(directory: Path) -> int:
    file = directory / "metrics.jsonl"
    return 3 * file.read_text().count("\n") if file.exists() else 0


def test_stopping_at_any_step_changes_nothing(tmp_path: Path, uninterrupted: Any) -> None:
    for stop in (7, 20, 31, 59):  # before the first checkpoint, at one, between two, near the end
        directory = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            run(Stopping(stop), directory)
        learner = ToyLearner()
        run(learner, directory)
        assert curve(directory) == curve(uninterrupted[0])
        assert_equal(weights(learner), uninterrupted[1])


class Stopping(ToyLearner):
    """Ctrl-C after some steps."""

    def __init__(self, stop: int) -> None:
        super().__init__()
        self.left = stop

    def after_step(self) -> None:
        super().after_step()
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_batch_is_asked_for_once_per_step_in_order(tmp_path: Path) -> None:
    learner = ToyLearner()
    run(learner, tmp_path)
    assert learner.asked == list(range(60))
    again = ToyLearner()
    run(again, tmp_path)
    assert again.asked == []


def test_a_finished_run_answers_with_its_last_metrics_at_once(tmp_path: Path) -> None:
    first, learner = run(ToyLearner(), tmp_path), ToyLearner()
    assert run(learner, tmp_path) == first
    assert not learner.module.training
    assert first["total"] == lines(tmp_path)[-1]["total"]


def test_lines_after_the_checkpoint_are_dropped_and_a_torn_line_is_forgiven(
    tmp_path: Path, uninterrupted: Any
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(38), tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == list(range(3, 37, 3))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'"a word"\n12\n{"total": 1.0}\n\x00\xff\n{"step": 39, "to')
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(1), tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == list(range(3, 31, 3))
    run(ToyLearner(), tmp_path)
    assert curve(tmp_path) == curve(uninterrupted[0])


def test_other_settings_do_not_resume_and_are_named_in_full(tmp_path: Path) -> None:
    run(ToyLearner(model={"width": 128, "units": ["m"]}), tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    other = ToyLearner(model={"width": 64, "units": ["m", "rad"]})
    with pytest.raises(CheckpointError) as refusal:
        run(other, tmp_path, replace(CONFIG, learning_rate=0.5))
    message = str(refusal.value)
    assert "train.learning_rate was 0.01, is 0.5" in message
    assert "learner.settings.model.width was 128, is 64" in message
    assert "learner.settings.model.units was ['m'], is ['m', 'rad']" in message
    assert "steps" not in message.split("Use the same")[0]
    assert "another --out to start anew" in message
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_of_something_else_does_not_resume(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoint", {"x": torch.ones(1)}, {"format": "forerun-world-model-1"})
    with pytest.raises(CheckpointError, match="it does not say which"):
        run(ToyLearner(), tmp_path)


class Astray(ToyLearner):
    """From some step on the loss, or only its gradient, is not a number."""

    def __init__(self, at: int, where: str) -> None:
        super().__init__()
        self.at, self.where = at, where

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = super().loss(batch)
        if float(self.module.seen) >= self.at:
            weight = self.module["network"][0].weight  # type: ignore[index]
            bad = (weight * 0).sqrt().sum() if self.where == "gradient" else torch.tensor(float("nan"))
            losses["total"] = losses["total"] + bad
        return losses


@pytest.mark.parametrize("where", ["total", "gradient"])
@pytest.mark.parametrize("at", [21, 40])
def test_a_loss_that_is_not_a_number_stops_before_the_checkpoint_is_touched(
    tmp_path: Path, where: str, at: int
) -> None:
    config = replace(CONFIG, log_every=50)  # nothing is logged between the fault and the next checkpoint
    with pytest.raises(DataError, match=rf"'toy' went astray by step .*{where} is nan") as refusal:
        run(Astray(at, where), tmp_path, config)
    assert "The last checkpoint is intact" in str(refusal.value)
    tensors, about = checkpoint.load(tmp_path / "checkpoint")
    assert about["step"] == (at - 1) // 10 * 10
    assert all(values.isfinite().all() for values in tensors.values())


def test_waiting_for_data_is_a_share_of_the_time(tmp_path: Path) -> None:
    class Slow(ToyLearner):
        def batch(self, step: int) -> dict[str, Tensor]:
            time.sleep(0.05)
            return super().batch(step)

    short = replace(CONFIG, steps=12)
    assert 0.5 < run(Slow(), tmp_path / "slow", short)["data_wait"] <= 1
    assert 0 <= run(ToyLearner(seconds_per_step=0.01), tmp_path / "quick", short)["data_wait"] < 0.5
    assert all(0 <= line["data_wait"] <= 1 and line["steps_per_s"] > 0 for line in lines(tmp_path / "slow"))


def test_an_error_while_making_a_batch_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(ToyLearner):
        def batch(self, step: int) -> dict[str, Tensor]:
            if step == 12:
                raise DataError("episode 3 is damaged")
            return super().batch(step)

    with pytest.raises(DataError, match="episode 3 is damaged"):
        run(Broken(), tmp_path)
    assert checkpoint.load(tmp_path / "checkpoint")[1]["step"] == 10


def test_what_happens_at_a_checkpoint_does_not_move_the_curve(tmp_path: Path, uninterrupted: Any) -> None:
    told = []

    def look(step: int) -> None:
        assert not learner.module.training
        torch.randn(step)  # noise drawn for a video, say
        told.append(step)

    learner = ToyLearner()
    run(learner, tmp_path, on_save=look)
    assert told == [10, 20, 30, 40, 50, 60]
    assert curve(tmp_path) == curve(uninterrupted[0])


def test_another_seed_takes_another_course(tmp_path: Path, uninterrupted: Any) -> None:
    run(ToyLearner(), tmp_path, replace(CONFIG, seed=1))
    assert curve(tmp_path) != curve(uninterrupted[0])


def test_the_learning_rate_warms_up_then_falls_to_a_twentieth() -> None:
    config = TrainConfig(steps=1000, warmup=100)
    rates = [schedule(step, config) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01, rel=0.01)
    assert max(rates) == rates[99] > 0.95
    assert rates[99:] == sorted(rates[99:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=1e-4)


def test_numbers_of_steps_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="save_every 0"):
        TrainConfig(steps=10, save_every=0)


def test_a_run_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        run(ToyLearner(), tmp_path / "run" / "toy")


def test_metrics_that_do_not_fit_on_the_disk_stop_the_run_with_a_reason(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full to write to")
    with log.RunLog(tmp_path, "toy", 1) as run_log:
        run_log.file.close()
        run_log.file = full.open("a")
        with pytest.raises(StorageError, match="the disk is full"):
            run_log.write(1, {"total": 1.0})


def test_tensorboard_gets_every_number_and_none_of_its_warnings_through(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is optional: pip install 'forerun[log]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            run(Stopping(38), tmp_path)
        run(ToyLearner(), tmp_path)
    assert [str(w.message) for w in caught] == []
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    shown = {e.step: e.value for e in events.Scalars("error")}
    assert shown == pytest.approx({line["step"]: line["error"] for line in lines(tmp_path)})
    assert len(events.Scalars("error")) == 20  # those of the lost steps are not shown twice


def test_without_tensorboard_a_run_still_writes_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Any
) -> None:
    monkeypatch.setattr(log.importlib.util, "find_spec", lambda name: None)
    run(ToyLearner(), tmp_path)
    assert curve(tmp_path) == curve(uninterrupted[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "metrics.jsonl"]


def test_importing_the_log_with_warnings_as_errors_is_silent(tmp_path: Path) -> None:
    script = (
        "from forerun.training.log import RunLog; from pathlib import Path; import sys\n"
        "with RunLog(Path(sys.argv[1]), 'toy', 1) as log: log.write(1, {'total': 1.0})"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tmp_path)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_the_trainer_asks_for_nothing_beyond_the_protocol(tmp_path: Path) -> None:
    asked = {name for name in dir(Learner) if not name.startswith("_")} | set(Learner.__annotations__)

    class Only:
        def __getattr__(self, name: str) -> Any:
            assert name in asked, name
            return getattr(learner, name)

    learner = ToyLearner()
    train(Only(), replace(CONFIG, steps=3), tmp_path)
