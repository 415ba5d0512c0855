"""A small recurrent net that turns knobs, and the controller in which two of them sit.

policy  50 Hz   senses            -> turns the planned action
fast   500 Hz   touch             -> turns the law's output, within its bounds
law   1000 Hz   action, touch     -> the command
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from forerun.control.chunks import Chunks, Mode
from forerun.control.lateness import DelayLine, Lateness
from forerun.control.punctuality import Diary
from forerun.control.senses import Felt, Senses, Sight, fast_features, policy_features
from forerun.tasks.touch import TouchWorlds
from forerun.tasks.touch.law import Actor, Knob, Law, turned, turns
from forerun.types import CheckpointError

FORMAT = "forerun-student-1"
USUAL = ("usual.low", "usual.high")
POLICY_MS, FAST_MS = 20, 2
REACTS_MS = 1
"""The fast tier's net runs so long after a sample, when its law rests: no millisecond has both to compute."""
PUNCTUAL = Lateness(delay_s=0.0)
WIDEST_TURN = 4.0
"""A policy may turn a knob by so many of its scales."""


class Student(nn.Module):
    """Features (B, T, F) to turns (B, T, K), by a GRU; untrained, it turns nothing."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, knobs: int, width: int = 48) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.gru = nn.GRU(features, width, batch_first=True)
        self.out = nn.Linear(width, knobs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def fit_scale(self, features: Tensor) -> None:
        """Standardise by the mean and spread of features (N, F)."""
        self.mean.copy_(features.mean(0))
        self.scale.copy_(features.std(0).clamp_min(0.02))

    def forward(self, features: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Turns (B, T, K) and the hidden state (1, B, width)."""
        seen = ((features - self.mean) / self.scale).clamp(-8, 8)
        out, hidden = self.gru(seen, hidden)
        assert hidden is not None
        return self.out(out), hidden


def save_student(
    student: Student,
    path: Path,
    knobs: tuple[Knob, ...],
    task: str,
    usual: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Write a student as safetensors, with the task and the knobs it was taught for.

    Args:
        usual: bounds of touch over an episode, (T, K) each, of `forerun.control.calibration.calibrate`.
    """
    about = {"format": FORMAT, "task": task, "knobs": repr(knobs)}
    bounds = {} if usual is None else dict(zip(USUAL, map(torch.from_numpy, usual), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**student.state_dict(), **bounds}, path, metadata=about)


def read_student(path: Path, knobs: tuple[Knob, ...], task: str) -> dict[str, np.ndarray]:
    """The weights that `save_student` wrote, for `Student` or `forerun.control.gru.NumpyStudent`.

    Raises:
        CheckpointError: there is no such file, or it was taught for another task or other knobs.
    """
    try:
        with safe_open(path, "numpy") as file:
            about, weights = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as cause:
        raise CheckpointError(
            f"'{path}' is no fast tier: {cause}. Expected a file of benchmarks/touch.py, reflex.safetensors"
        ) from cause
    wanted = {"format": FORMAT, "task": task, "knobs": repr(knobs)}
    if about != wanted:
        raise CheckpointError(
            f"'{path}' holds a student of {about}; expected {wanted}. Teach one for this task: "
            "benchmarks/touch.py"
        )
    return weights


def usual_touch(weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The bounds of touch that were kept with a student, if any were."""
    return (weights[USUAL[0]], weights[USUAL[1]]) if USUAL[0] in weights else None


def student_of(weights: dict[str, np.ndarray]) -> Student:
    """The net of what `read_student` read."""
    student = Student(len(weights["mean"]), len(weights["out.bias"]), weights["out.weight"].shape[1])
    student.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items() if k not in USUAL})
    return student.eval()


@dataclass
class Trace:
    """What a net was shown and what an expert would have answered, step by step."""

    features: list[np.ndarray] = field(default_factory=list)
    """Each (B, F)."""
    wanted: list[np.ndarray] = field(default_factory=list)
    """Each (B, K)."""


class Tiers:
    """Policy, fast tier and law of B worlds, as one controller; either net may be missing.

    Args:
        chunks: where planned actions come from, late perhaps; the task's plan, always in time, if None.
        expert: if given, ``traces`` keep what it would have done; worlds where ``led`` (B,) is true do it.
        script: a policy that somebody wrote, in the place of a learned one; it turns the same knobs.
        policy_late, fast_late: latency and jitter on purpose; by default there is none.
    """

    def __init__(
        self,
        law: Law,
        knobs: tuple[Knob, ...],
        senses: Senses,
        policy: Student | None = None,
        fast: Student | None = None,
        sight: Sight | None = None,
        expert: object = None,
        led: np.ndarray | None = None,
        chunks: Chunks | None = None,
        script: Actor | None = None,
        policy_late: Lateness = PUNCTUAL,
        fast_late: Lateness = PUNCTUAL,
    ) -> None:
        self.script, self.late = script, {"policy": policy_late, "fast": fast_late}
        self.law, self.knobs, self.senses = law, knobs, senses
        self.policy, self.fast, self.sight = policy, fast, sight
        self.expert, self.led, self.chunks = expert, led, chunks

    def reset(self, worlds: TouchWorlds) -> None:
        """Begin an episode."""
        self.law.reset(worlds)
        if self.chunks is not None:
            self.chunks.reset(worlds)
        if self.script is not None and hasattr(self.script, "reset"):
            self.script.reset(worlds)  # type: ignore[attr-defined]
        self.lines = {tier: DelayLine(late, salt) for salt, (tier, late) in enumerate(self.late.items())}
        self.diaries = {tier: Diary() for tier in self.late}
        self.felt = Felt(worlds)
        self.turn = np.zeros((worlds.count, len(self.knobs)))
        self.residual = np.zeros((worlds.count, len(self.law.knobs)))
        self._policy_hidden: Tensor | None = None
        self._fast_hidden: Tensor | None = None
        self.traces = {"policy": Trace(), "fast": Trace()}

    def command(self, worlds: TouchWorlds) -> np.ndarray:
        """The command (B, C) of this millisecond."""
        if worlds.ms % FAST_MS == 0 and worlds.ms:
            self.felt.update(worlds)
            if self.chunks is not None:
                self.chunks.feel(worlds, self.felt.newest)
        if worlds.ms % POLICY_MS == 0:
            self._send("policy", worlds, self._act(worlds))
        self.action = self.lines["policy"].receive(worlds.time_s)
        if worlds.ms % FAST_MS == REACTS_MS:
            self.residual = self._react(worlds)
        command = self.law(worlds, self.action, self.residual if self.law.knobs else None)
        self._send("fast", worlds, command)
        return self.lines["fast"].receive(worlds.time_s)

    def _send(self, tier: str, worlds: TouchWorlds, value: np.ndarray) -> None:
        """What a tier decided now, in force later; a command takes effect as its millisecond ends."""
        late = self.lines[tier].send(worlds.time_s, value)
        felt_s = worlds.read(worlds.touch).time_s if worlds.ms > POLICY_MS else -np.inf  # nothing has arrived
        ends_s = worlds.time_s + (0.001 if tier == "fast" else 0.0)
        self.diaries[tier].note(late, ends_s + late - felt_s)

    def _act(self, worlds: TouchWorlds) -> np.ndarray:
        nominal = worlds.nominal() if self.chunks is None else self.chunks.action(worlds)
        action = self._turned(worlds, nominal) if self.knobs else nominal
        if self.chunks is not None:  # what is held is held as it is: a policy turns plans, not holds
            action = np.where((self.chunks.mode == Mode.FOLLOW)[:, None], action, nominal)
            self.chunks.acted = action
        return action

    def _turned(self, worlds: TouchWorlds, nominal: np.ndarray) -> np.ndarray:
        """The planned action (B, A) as the policy turns it."""
        low, high = np.asarray(worlds.action_spec.low), np.asarray(worlds.action_spec.high)
        if self.script is not None:
            self.turn = turns(nominal, self.knobs, self.script(worlds))
            return np.clip(turned(nominal, self.knobs, self.turn), low, high)
        seen = policy_features(worlds, self.senses, self.felt, self.sight, nominal, self.turn)
        if self.policy is not None:
            out, self._policy_hidden = _step(self.policy, seen, self._policy_hidden)
            self.turn = np.clip(out, -WIDEST_TURN, WIDEST_TURN)
        if self.expert is not None:
            wanted = np.clip(
                turns(nominal, self.knobs, self.expert(worlds)),  # type: ignore[operator]
                -WIDEST_TURN,
                WIDEST_TURN,
            )
            self._note("policy", seen, wanted)
            self.turn = self._lead(self.turn, wanted)
        return np.clip(turned(nominal, self.knobs, self.turn), low, high)

    def _react(self, worlds: TouchWorlds) -> np.ndarray:
        residual = np.zeros_like(self.residual)
        idle = self.fast is None and self.expert is None
        if not self.law.knobs or idle or worlds.ms < self.law.from_ms:
            return residual
        seen = fast_features(
            worlds, self.felt, self.action, self.law.stance(worlds, self.action), self.residual
        )
        if self.fast is not None:
            out, self._fast_hidden = _step(self.fast, seen, self._fast_hidden)
            residual = np.clip(out, -1, 1)
        if self.expert is not None:
            wanted = self.law.wanted(worlds, self.action)
            self._note("fast", seen, wanted)
            if self.fast is not None or not self.knobs:
                residual = self._lead(residual, wanted)
        return residual

    def _lead(self, own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return own if self.led is None else np.where(self.led[:, None], wanted, own)

    def _note(self, tier: str, seen: np.ndarray, wanted: np.ndarray) -> None:
        self.traces[tier].features.append(seen)
        self.traces[tier].wanted.append(wanted.astype(np.float32))


@torch.no_grad()
def _step(net: Student, seen: np.ndarray, hidden: Tensor | None) -> tuple[np.ndarray, Tensor]:
    out, after = net(torch.from_numpy(seen)[:, None], hidden)
    return out[:, 0].numpy().astype(np.float64), after


def run(worlds: TouchWorlds, controller: object, seeds: range | list[int]) -> dict[str, np.ndarray]:
    """One episode in every world; returns its score, (B,) each."""
    worlds.reset(seeds)
    controller.reset(worlds)  # type: ignore[attr-defined]
    while not worlds.over:
        worlds.tick(controller.command(worlds))  # type: ignore[attr-defined]
    return worlds.score()
