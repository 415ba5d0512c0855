"""A recording at 1 kHz x 64 channels while a policy runs: is anything lost, and does the loop stay in time?

    python benchmarks/recording.py
    python benchmarks/recording.py --seconds 5

One process paces a loop at 1 kHz: it appends a sample of 64 channels and every 20 ms asks a recurrent policy,
the fast tier's network. The recorder's thread writes to disk meanwhile. Then every sample is read back and
compared with what was appended, bit for bit. Writes one JSON.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from forerun.control.gru import NumpyStudent
from forerun.control.realtime import Pacer, prepare
from forerun.control.student import Student
from forerun.data import LiveRecorder, open_recordings
from forerun.evaluation.results import write_result
from forerun.types import StreamSpec

CHANNELS, HZ, POLICY_EVERY = 64, 1000, 20


@dataclass(kw_only=True)
class Recording:
    """See the top of this file."""

    seconds: int = 60
    fifo: bool = True
    """Ask for SCHED_FIFO; the result says whether it was granted."""
    seed: int = 0

    def __call__(self) -> None:
        ticks = self.seconds * HZ
        samples = np.random.default_rng(self.seed).standard_normal((ticks, CHANNELS), np.float32)
        policy = NumpyStudent({k: v.numpy() for k, v in Student(CHANNELS, 2, 48).state_dict().items()})
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "run"
            metrics = self._record(folder, samples, policy)
            stream = open_recordings(folder)[0].streams["skin"]
            read, stamps = stream.read(), np.rint(stream.times_s * 1e9).astype(np.int64)
            metrics |= {
                "samples_expected": ticks,
                "samples_read": len(read),
                "bit_for_bit": bool(len(read) == len(samples) and (read == samples).all()),
                "stamps_bit_for_bit": bool(np.array_equal(stamps, metrics.pop("stamps"))),
                "bytes": sum(f.stat().st_size for f in folder.iterdir()),
            }
        Console().print(metrics)
        settings = {"channels": CHANNELS, "hz": HZ, "policy_every": POLICY_EVERY, **vars(self)}
        print(write_result("recording", metrics, settings=settings, seed=self.seed, n=ticks))

    def _record(self, folder: Path, samples: np.ndarray, policy: NumpyStudent) -> dict[str, Any]:
        spec = StreamSpec(name="skin", kind="touch", shape=(CHANNELS,), unit="N", rate_hz=float(HZ))
        origin_ns = time.time_ns()
        recorder = LiveRecorder(folder, {"skin": spec}, origin_ns=origin_ns)
        stamps = np.zeros(len(samples), np.int64)
        late, spent = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
        granted = prepare(self.fifo)
        pacer = Pacer(10**9 // HZ)
        for k in range(len(samples)):
            late[k] = pacer.wait()
            stamps[k] = time.time_ns() - origin_ns
            began = time.monotonic_ns()
            recorder.append("skin", samples[k], origin_ns + int(stamps[k]))
            spent[k] = time.monotonic_ns() - began
            if k % POLICY_EVERY == 0:
                policy(samples[k])
        recorder.close()
        return {
            "granted": granted.words(),
            "lost": recorder.lost["skin"],
            "append_us": _percentiles(spent),
            "lateness_us": _percentiles(late),
            "missed_ticks": pacer.missed,
            "stamps": stamps,
        }


def _percentiles(ns: np.ndarray) -> dict[str, float]:
    p50, p99, most = np.percentile(ns, (50, 99, 100)) / 1000
    return {"p50": float(p50), "p99": float(p99), "max": float(most)}


if __name__ == "__main__":
    tyro.cli(Recording)()
