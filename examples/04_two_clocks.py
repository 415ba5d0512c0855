"""A camera at 10 Hz and touch at 500 Hz, each on its own clock, read without looking ahead.

python examples/04_two_clocks.py
"""

import tempfile
from pathlib import Path

import numpy as np
import tyro

import forerun
from forerun.data.window import WindowSpec, read_window

SECONDS = 3.0


def episode() -> forerun.Episode:
    """A finger touches at 1.5 s: 2 N, felt within two milliseconds, seen by the camera much later."""
    camera_s, touch_s = np.arange(0, SECONDS, 0.1), np.arange(0, SECONDS, 0.002)
    pictures = np.zeros((len(camera_s), 32, 32, 3), np.uint8)
    pictures[camera_s >= 1.5, 8:24, 8:24] = (220, 60, 40)
    force = np.where(touch_s >= 1.5, 2.0, 0.0)[:, None].astype(np.float32)
    streams = [
        forerun.Stream(
            forerun.StreamSpec(name="camera", kind="video", shape=(32, 32, 3), unit="rgb", rate_hz=10.0),
            camera_s,
            pictures,
        ),
        forerun.Stream(
            forerun.StreamSpec(name="finger", kind="touch", shape=(1,), unit="N", rate_hz=500.0),
            touch_s,
            force,
        ),
    ]
    return forerun.Episode("press", {stream.spec.name: stream for stream in streams})


def main(quick: bool = False) -> None:
    """Write, reopen, align and cut.

    Args:
        quick: changes nothing; this example takes a second.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "press"
        forerun.write_lerobot(path, [episode()], fps=10.0)
        press = forerun.open_recordings(path)[0]
        for name, stream in press.streams.items():
            print(f"{name:<8} {len(stream):5d} samples of {stream.spec.shape} in {stream.spec.unit}")

        # A policy that decides at 1.505 s reads the newest sample of either, and no later one.
        now = np.array([1.499, 1.505])
        felt = forerun.align(press.streams["finger"], now, max_age_s=0.01)
        seen = forerun.align(press.streams["camera"], now)
        print(f"force at {now} s: {felt.values[:, 0]} N, {1000 * felt.age_s.round(4)} ms old")
        print(f"camera at {now} s: {1000 * seen.age_s.round(3)} ms old")

        # What a model is given for one moment: the last two pictures, and 100 ms of touch before it.
        cut = {"camera": WindowSpec(seconds_back=0.2), "finger": WindowSpec(seconds_back=0.1)}
        window = read_window(press, 1.6, cut)
        print({name: part.values.shape for name, part in window.items()})


if __name__ == "__main__":
    tyro.cli(main)
