"""Four public touch recordings, as arrays for learning, with what their files do not say.

touch_softfinger_wrench  marker seen inside a soft finger -> wrench: shuffled pairs, no time
touch_biotac_stability   72 electrodes before lifting -> did it slip: test files hold other objects
touch_icub_grasp         60 taxels and 9 encoders while a hand closes: slices without time stamps
wrench_screwdriving      one run; wrench and camera on two jittery clocks

All four open with `forerun.open_recordings`, on their own clocks; this file adds splits and units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forerun.data import open_recordings
from forerun.data.episode import Episode, Recordings, Stream
from forerun.types import DataError, StreamSpec

SOFTFINGER, BIOTAC, ICUB, SCREW = (
    "touch_softfinger_wrench",
    "touch_biotac_stability",
    "touch_icub_grasp",
    "wrench_screwdriving",
)
PALMS = ("down", "side")
WRENCH = ("Fx", "Fy", "Fz", "Tx", "Ty", "Tz")


@dataclass(frozen=True)
class Rows:
    """Independent samples."""

    inputs: np.ndarray
    """(N, F) float32."""
    targets: np.ndarray
    """(N, K) float32, or (N,) int64 labels."""
    groups: np.ndarray
    """(N,) what must not be on both sides of a split: an object's name, a row's own number."""

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: np.ndarray) -> Rows:
        """Some of them, by index or mask."""
        return Rows(self.inputs[rows], self.targets[rows], self.groups[rows])


def opened(data: Path, name: str) -> Recordings:
    """One of the four sets.

    Raises:
        DataError: its folder is not under ``data``.
    """
    if not (data / name).is_dir():
        raise DataError(
            f"the folder '{name}' is not among the recordings; expected it beside the others, with its "
            f"SOURCE.md. Say where they lie with --data FOLDER ({data})"
        )
    return open_recordings(data / name)


def softfinger(recordings: Recordings) -> tuple[Rows, Rows]:
    """Training and test file: six numbers of the marker's pose, and the wrench in N and N m.

    The poses of the training file are standardised, by constants that were not published; those of the test
    file are not (its third and fifth column lie near 45 and 180, as millimetres and degrees would). So the
    test poses are standardised by their own mean and spread, which looks at all inputs but at no target.

    Raises:
        DataError: poses and wrenches do not pair up.
    """
    parts = {}
    for episode in recordings:
        pose, wrench = (episode.streams[f"observation.{k}"].read() for k in ("marker_displacement", "wrench"))
        if len(pose) != len(wrench):
            raise DataError(
                f"the {episode.name} file of poses has {len(pose)} rows and that of wrenches {len(wrench)}; "
                f"expected pairs. One of them is truncated: copy it again ({recordings.path})"
            )
        inputs = pose if episode.name == "train" else (pose - pose.mean(0)) / pose.std(0)
        parts[episode.name] = Rows(_float32(inputs), _float32(wrench), np.arange(len(pose)))
    return parts["train"], parts["test"]


def biotac(recordings: Recordings, palm: str) -> tuple[Rows, Rows]:
    """Training and test file of one orientation: 72 electrodes in raw counts; 1 if the grasp slipped.

    Groups are the objects. The test file holds objects that the training file does not.

    Args:
        palm: one of `PALMS`, how the hand was held.
    """
    kinds: dict[str, list[Episode]] = {"train": [], "test": []}
    for episode in recordings:
        if f"_palm_{palm}_" in episode.name:
            kinds[episode.metadata["split"]].append(episode)
    return tuple(_grasps(kinds[split]) for split in ("train", "test"))  # type: ignore[return-value]


def _grasps(episodes: Sequence[Episode]) -> Rows:
    electrodes = np.concatenate([e.streams["observation.tactile"].read() for e in episodes])
    slipped = np.array([not e.success for e in episodes], np.int64)
    objects = np.array([e.metadata["object"] for e in episodes])
    return Rows(_float32(electrodes.reshape(len(episodes), -1)), slipped, objects)


@dataclass(frozen=True)
class Grasp:
    """One closing of the hand, slice by slice; when a slice was taken is not recorded."""

    thing: str
    trial: int
    """1 to 16, in the order of recording."""
    taxels: np.ndarray
    """(T, 60) float32, 255 minus the stored counts: more is more pressure."""
    encoders: np.ndarray
    """(T, 9) float32, as stored; the authors give no unit."""

    def __len__(self) -> int:
        return len(self.taxels)

    def tared(self) -> np.ndarray:
        """(T, 60) taxels less those of the first slice: what the session left in the sensors is gone."""
        return self.taxels - self.taxels[0]


def icub(recordings: Recordings, *, unreliable: bool = False) -> list[Grasp]:
    """Every grasp, by object and trial; those the authors call unreliable (full_coke) only on request.

    The finger maxima of the files are left out: they are not the maxima that the description promises (they
    differ by a few counts in most slices), and hold nothing that the taxels do not.
    """
    grasps = []
    for episode in recordings:
        if episode.metadata["reliable"] or unreliable:
            taxels, encoders = (
                episode.streams[f"observation.{k}"].read() for k in ("taxels", "hand_encoders")
            )
            pressed = _float32(255 - taxels.reshape(len(taxels), -1))
            about = episode.metadata
            grasps.append(Grasp(about["object"], about["trial"], pressed, _float32(encoders)))
    return sorted(grasps, key=lambda g: (g.thing, g.trial))


def screwdriving(recordings: Recordings) -> Episode:
    """The one run: "wrench" (6,) in N and N m, and "tip" (2,), pixels of the screw's tip, on two clocks.

    The camera's file calls its columns X, Y, Z and v. Z and v are pixels. X and Y are the same points as
    radius and angle about the mean of the whole run, so they know the future and are left out.
    """
    whole = recordings[0]
    force, torque = (whole.streams[f"observation.wrench_{k}"] for k in ("force", "torque"))
    seen = whole.streams["observation.tip"]
    wrench = StreamSpec(name="wrench", kind="touch", shape=(6,), unit="N, N m", names=WRENCH)
    tip = StreamSpec(name="tip", kind="vector", shape=(2,), unit="px", names=("u", "v"))
    both = np.concatenate([force.read(), torque.read()], axis=1)
    streams = {
        "wrench": Stream(wrench, force.times_s, _float32(both)),
        "tip": Stream(tip, seen.times_s, _float32(seen.read()[:, 2:])),
    }
    return Episode(whole.name, streams, whole.task, whole.success, whole.metadata)


def idle_taxels(grasps: Sequence[Grasp], counts: float = 2.0) -> np.ndarray:
    """(60,) bool: taxels that no grasp moves by more than so many counts, so that nothing ever presses them.

    What they say of an object is most likely what its session left in them: a test for leaks, not a sense.
    """
    return np.max([np.abs(g.tared()).max(axis=0) for g in grasps], axis=0) <= counts


def held_out(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N,) bool: about ``share`` of the groups, whole ones; at least one, and never all."""
    names = np.unique(groups)
    count = min(max(1, round(share * len(names))), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return np.isin(groups, names[chosen])


def trial_fold(grasps: Sequence[Grasp], folds: int) -> np.ndarray:
    """(N,) in which fold each grasp is tested: trials that follow each other share one, of every object."""
    trials = np.array([g.trial for g in grasps])
    return (trials - 1) * folds // trials.max()


def _float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)
