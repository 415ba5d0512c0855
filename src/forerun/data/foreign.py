"""Manifests for published folders that carry none: each function knows one layout and writes its manifest.

A layout is recognised by its file names. Units are given where the authors state them, else left empty.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from forerun.data.tables import read_json, read_table

Content = dict[str, Any]


def manifest_for(path: Path) -> Content | None:
    """The content of a forerun.json for a known layout at ``path``, else None."""
    if not path.is_dir():
        return None
    for has, describe in _LAYOUTS:
        if any(path.glob(has)):
            return describe(path)
    return None


def droid_multiview(path: Path) -> Content:
    """DROID as JSON annotation and three videos (Ctrl-World): rows at 15 Hz, every third row has a frame.

    ``states`` in the annotation repeats every third row of cartesian_position and gripper_position; it is
    left out.
    """
    pose = {"names": ["x", "y", "z", "roll", "pitch", "yaw"], "unit": "m, rad"}
    known = {
        "observation.state.cartesian_position": pose,
        "observation.state.joint_position": {"unit": "rad"},
        "observation.state.gripper_position": {},
        "action.cartesian_position": pose,
        "action.joint_position": {"unit": "rad"},
        "action.joint_velocity": {"unit": "rad/s"},
        "action.gripper_position": {},
    }
    cameras = ("outside_0", "outside_1", "wrist")
    episodes = []
    for file in sorted(path.glob("annotation/*/*.json"), key=lambda f: (f.parent.name, int(f.stem))):
        entry, inside = read_json(file), str(file.relative_to(path))
        streams: Content = {
            f"observation.images.{camera}": {"file": video["video_path"], "rate_hz": 5}
            for camera, video in zip(cameras, entry["videos"], strict=True)
        }
        for name, described in known.items():
            streams[name] = {"file": inside, "columns": [name], "rate_hz": 15} | described
        episodes.append(
            {
                "name": f"{file.parent.name}/{file.stem}",
                "task": entry["texts"][0],
                "success": bool(entry["success"]),
                "metadata": {"split": file.parent.name},
                "streams": streams,
            }
        )
    return {"episodes": episodes, "notes": ["states at 15 Hz, pictures at 5 Hz: frame k was taken at row 3k"]}


def cube_tosses(path: Path) -> Content:
    """ContactNets: real tosses of a cube at 148 Hz; lengths are stored divided by the half width of the
    cube."""
    file = path / "tosses.npz"
    arrays = read_table(file)
    metres, rate = float(arrays["half_width_m"]), 1 / float(arrays["dt"])
    at = {"file": file.name, "columns": ["states"], "rate_hz": rate}
    xyz = ["x", "y", "z"]
    streams = {
        "position": {"channels": [0, 3], "scale": metres, "unit": "m", "names": xyz},
        "orientation": {"channels": [3, 7], "names": ["qw", "qx", "qy", "qz"]},
        "velocity": {"channels": [7, 10], "scale": metres, "unit": "m/s", "names": xyz},
        "angular_velocity": {"channels": [10, 13], "unit": "rad/s", "names": xyz},
    }
    cuts = arrays["offsets"].tolist()
    episodes = [
        {
            "name": f"toss_{toss:03d}",
            "streams": {f"observation.{k}": at | v | {"rows": [start, stop]} for k, v in streams.items()},
        }
        for toss, start, stop in zip(arrays["toss_id"].tolist(), cuts[:-1], cuts[1:], strict=True)
    ]
    return {"episodes": episodes, "notes": [f"lengths are multiplied by the half width, {metres} m"]}


def icub_grasps(path: Path) -> Content:
    """iCub grasps: a marker line, then per slice 9 encoders, 5 finger maxima and 5 x 12 taxels (lower =
    pressed)."""
    at = {"file": "{name}.txt", "skip_lines": 1, "numbers_per_row": 74, "time": "index"}
    columns = [str(i) for i in range(74)]
    folder = next(path.glob("**/book_*.txt")).parent
    prefix = folder.relative_to(path).as_posix()
    at["file"] = f"{prefix}/{{name}}.txt" if prefix != "." else at["file"]
    streams = {
        "observation.hand_encoders": {"columns": columns[:9], "names": [f"encoder_{i}" for i in range(9)]},
        "observation.finger_maxima": {"columns": columns[9:14], "kind": "touch"},
        "observation.taxels": {"columns": columns[14:], "kind": "touch", "shape": [5, 12]},
    }
    episodes = []
    for file in sorted(folder.glob("*_*.txt")):
        thing, _, trial = file.stem.rpartition("_")
        metadata = {"object": thing, "trial": int(trial), "reliable": thing != "full_coke"}
        episodes.append({"name": file.stem, "task": f"grasp {thing}", "metadata": metadata})
    return {
        "streams": {k: at | v for k, v in streams.items()},
        "episodes": episodes,
        "notes": ["no time stamps: slice k is put at k seconds", "the authors call full_coke unreliable"],
    }


def biotac_grasps(path: Path) -> Content:
    """BioTac SP stability: one row is one grasp before lifting, so one row is one episode with one sample."""
    episodes = []
    for file in sorted(path.glob("bts3v2_*.csv")):
        columns = read_table(file)
        electrodes = [c for c in columns if "biotac" in c]
        stream = {
            "file": file.name,
            "columns": electrodes,
            "kind": "touch",
            "shape": [3, 24],
            "names": electrodes,
            "time": "index",
        }
        split = "test" if file.stem.endswith("_test") else "train"
        for row, (thing, slipped) in enumerate(zip(columns["object"], columns["slipped"], strict=True)):
            episodes.append(
                {
                    "name": f"{file.stem}_{row:04d}",
                    "task": f"grasp {thing}",
                    "success": not slipped,
                    "metadata": {"object": thing, "split": split},
                    "streams": {"observation.tactile": stream | {"rows": [row, row + 1]}},
                }
            )
    return {
        "episodes": episodes,
        "notes": ["one sample per grasp, taken before lifting; success = it did not slip"],
    }


def softfinger_pairs(path: Path) -> Content:
    """Soft finger: marker displacement (seen inside the finger) and wrench (bench sensor), row by row."""
    wrench = ["Fx", "Fy", "Fz", "Tx", "Ty", "Tz"]
    marker = [f"d{i}" for i in range(6)]
    streams = {
        "observation.marker_displacement": {
            "file": "internal_pose_{name}.csv",
            "kind": "touch",
            "names": marker,
        },
        "observation.wrench": {"file": "internal_FT_{name}.csv", "names": wrench, "unit": "N, N m"},
    }
    splits = sorted(f.stem.removeprefix("internal_FT_") for f in path.glob("internal_FT_*.csv"))
    notes = [
        "rows are shuffled pairs, a map and no time series: row k is put at k seconds",
        "poses of the training file are standardised, by unpublished constants; those of the test are not",
    ]
    return {
        "streams": {k: v | {"time": "index"} for k, v in streams.items()},
        "episodes": [{"name": name, "metadata": {"split": name}} for name in splits],
        "notes": notes,
    }


def screwdriving(path: Path) -> Content:
    """One screw-driving run: arm and wrench on one clock, the camera's tip position on another, both in
    ms."""
    clock = {"time": "timestamp", "time_scale_s": 0.001}
    arm = {
        "tcp_position": (["X", "Y", "Z"], "m"),
        "tcp_orientation": (["A", "B", "C"], "rad"),
        "wrench_force": (["Fx", "Fy", "Fz"], "N"),
        "wrench_torque": (["Tx", "Ty", "Tz"], "N m"),
        "tcp_velocity": (["Vx", "Vy", "Vz"], "m/s"),
        "tcp_angular_velocity": (["Wx", "Wy", "Wz"], "rad/s"),
        "stiffness": (["Kx", "Ky", "Kz"], "N/m"),
        "rotational_stiffness": (["Rot_Kx", "Rot_Ky", "Rot_Kz"], "N m/rad"),
        "damping": (["Cx", "Cy", "Cz", "Rot_Cx", "Rot_Cy", "Rot_Cz"], ""),
    }
    streams: Content = {
        f"observation.{name}": clock | {"file": "sensor_data.csv", "columns": columns, "unit": unit}
        for name, (columns, unit) in arm.items()
    }
    streams["observation.tip"] = clock | {"file": "observation_data.csv", "columns": ["X", "Y", "Z", "v"]}
    note = (
        "the header of observation_data.csv does not fit: its last two columns are pixels, the first two the "
        "same points as radius and angle about the mean of the whole run, which a forecast must not see"
    )
    return {"streams": streams, "episodes": [{"name": "run"}], "notes": [note]}


def franka_goal_pair(path: Path) -> Content:
    """V-JEPA 2's example: a start picture and a goal picture of a Franka arm, with its states."""
    file = path / "franka_example_traj.npz"
    at = {"file": file.name, "time": "index"}
    count = len(np.asarray(read_table(file)["states"]))
    streams = {
        "observation.images.camera": {"columns": ["observations"], "kind": "video", "unit": "rgb"},
        "observation.state": {"columns": ["states"]},
    }
    episodes = [
        {"name": f"pair_{i}", "streams": {k: at | v | {"item": i} for k, v in streams.items()}}
        for i in range(count)
    ]
    return {"episodes": episodes, "notes": ["start and goal only: sample k is put at k seconds"]}


_LAYOUTS: tuple[tuple[str, Callable[[Path], Content]], ...] = (
    ("annotation/*/*.json", droid_multiview),
    ("tosses.npz", cube_tosses),
    ("**/iCubGraspDataset", icub_grasps),
    ("bts3v2_*.csv", biotac_grasps),
    ("internal_FT_*.csv", softfinger_pairs),
    ("observation_data.csv", screwdriving),
    ("franka_example_traj.npz", franka_goal_pair),
)
