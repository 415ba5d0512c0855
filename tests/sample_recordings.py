"""Tiny recordings made on the fly, and the way to the real ones."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forerun.data import Episode, Stream, write_video
from forerun.data.tfrecord import masked_crc
from forerun.types import StreamSpec

HEIGHT, WIDTH = 16, 24
FPS = 10
CAMERA = "observation.images.cam"


def real(name: str) -> Path:
    """The folder of a bundled real data set; skips the test where it is not there."""
    root = Path(os.environ.get("FORERUN_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    if not (root / name).is_dir():
        pytest.skip(f"the real recordings '{name}' are not here; set FORERUN_DATA to their folder")
    return root / name


def clip(num_frames: int, first: int = 0) -> np.ndarray:
    """(N, HEIGHT, WIDTH, 3): frame k is gray level 6 * (first + k), so its number survives compression."""
    levels = 6 * (first + np.arange(num_frames))
    return np.broadcast_to(levels[:, None, None, None], (num_frames, HEIGHT, WIDTH, 3)).astype(np.uint8)


def frame_numbers(frames: np.ndarray) -> list[int]:
    """Which frames of ``clip`` these are."""
    return np.rint(frames.mean(axis=(1, 2, 3)) / 6).astype(int).tolist()


def stream(
    name: str, kind: str, values: np.ndarray, times_s: np.ndarray | None = None, **more: Any
) -> Stream:
    times_s = np.arange(len(values)) / FPS if times_s is None else times_s
    return Stream(StreamSpec(name=name, kind=kind, shape=values.shape[1:], **more), times_s, values)  # type: ignore[arg-type]


def episode(seed: int = 0, num_frames: int = 12) -> Episode:
    """A camera, state and action at 10 Hz, touch at 500 Hz with jitter, a slow camera, text, and a label."""
    rng, n = np.random.default_rng(seed), num_frames
    fast = np.sort(rng.random(n * 50)) * n / FPS
    slow = np.arange(0, n, 2) / FPS + 0.013
    names = ("shoulder", "elbow", "wrist")
    said = np.asarray(["go"] * n, dtype=object)
    streams = [
        stream(CAMERA, "video", clip(n, seed), unit="rgb", rate_hz=10.0),
        stream("observation.state", "vector", rng.normal(size=(n, 3)).astype("f4"), unit="rad", names=names),
        stream("action", "action", rng.normal(size=(n, 2)), unit="N", low=(-1.0, -2.0), high=(1.0, 2.0)),
        stream("taxels", "touch", rng.normal(size=(n, 2, 3)).astype("f4"), unit="N", rate_hz=10.0),
        stream("scene/block", "privileged", rng.normal(size=n), unit="m"),
        stream("next.done", "privileged", np.arange(n)[:, None] == n - 1),
        stream("said", "text", said),
        stream(
            "touch.fast", "touch", rng.normal(size=(n * 50, 4)).astype("f4"), fast, unit="N", rate_hz=500.0
        ),
        stream("observation.images.slow", "video", clip(len(slow), seed), slow, unit="rgb", rate_hz=5.0),
    ]
    label = [None, True, False][seed % 3]
    return Episode(
        f"run_{seed}", {s.spec.name: s for s in streams}, f"task {seed % 2}", label, {"seed": seed}
    )


def make_v21(root: Path, lengths: tuple[int, ...] = (6, 9), video: dict[str, Any] | None = None) -> Path:
    """A LeRobot v2.1 folder of one camera, state and action; names are nested as some recorders nest them."""
    features: dict[str, Any] = {
        CAMERA: {"dtype": "video", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channel"]},
        "observation.state": {"dtype": "float32", "shape": [2], "names": [["x", "y"]]},
        "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["left", "right"]}},
    }
    features |= {
        k: {"dtype": "int64", "shape": [1], "names": None} for k in ("frame_index", "episode_index", "index")
    }
    features |= {"timestamp": {"dtype": "float32", "shape": [1], "names": None}}
    info = {
        "codebase_version": "v2.1",
        "fps": FPS,
        "total_episodes": len(lengths),
        "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (root / "meta" / "modality.json").write_text(json.dumps({"state": {"arm": {"start": 0, "end": 2}}}))
    rows = [{"episode_index": i, "tasks": ["push"], "length": n} for i, n in enumerate(lengths)]
    (root / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for i, n in enumerate(lengths):
        table = root / info["data_path"].format(episode_chunk=0, episode_index=i)
        film = root / info["video_path"].format(episode_chunk=0, episode_index=i, video_key=CAMERA)
        table.parent.mkdir(parents=True, exist_ok=True)
        film.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table_v21(i, n), table)
        write_video(film, clip(n), FPS, **(video or {}))
    return root


def table_v21(index: int, num_rows: int) -> pa.Table:
    """The rows of one episode; state x is 10 * episode + row."""
    rows = np.arange(num_rows)
    state = np.stack([10 * index + rows, -rows], axis=1).astype("f4")
    return pa.table(
        {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 2),
            "action": pa.array(state.tolist(), type=pa.list_(pa.float32())),
            "timestamp": (rows / FPS).astype("f4"),
            "frame_index": rows,
            "episode_index": np.full(num_rows, index),
            "index": rows,
        }
    )


def write_tfrecords(
    root: Path, num_episodes: int, *, listed: int | None = None, action_size: int = 2
) -> list[Path]:
    """An RLDS folder of 4-step episodes: PNG camera, action 2, and negative step numbers; returns its
    shards."""
    from PIL import Image

    def tensor(dtype: str, *shape: int) -> dict[str, Any]:
        return {"tensor": {"shape": {"dimensions": [str(n) for n in shape]}, "dtype": dtype}}

    picture = {"image": {"shape": {"dimensions": [str(HEIGHT), str(WIDTH), "3"]}, "encodingFormat": "png"}}
    observation = {"featuresDict": {"features": {"image_0": picture, "count": tensor("int64")}}}
    marks = {"is_first": tensor("bool"), "is_last": tensor("bool"), "language_instruction": {"text": {}}}
    steps = {"observation": observation, "action": tensor("float32", action_size), **marks}
    tree = {"steps": {"sequence": {"feature": {"featuresDict": {"features": steps}}}}}
    info = {"name": "toy", "splits": [{"name": "train", "shardLengths": [str(listed or num_episodes)]}]}
    (root / "features.json").write_text(json.dumps({"featuresDict": {"features": tree}}))
    (root / "dataset_info.json").write_text(json.dumps(info))
    records = []
    for i in range(num_episodes):
        pngs = []
        for k in range(4):
            buffer = io.BytesIO()
            Image.fromarray(clip(1, 4 * i + k)[0]).save(buffer, "PNG")
            pngs.append(buffer.getvalue())
        values = {
            "steps/action": np.arange(8, dtype="<f4") + i,
            "steps/observation/image_0": pngs,
            "steps/observation/count": [-1, 0, 300, 2**40],
            "steps/is_first": [1, 0, 0, 0],
            "steps/is_last": [0, 0, 0, 1],
            "steps/language_instruction": [b"lift"] * 4,
        }
        records.append(example(values))
    shard = root / "toy-train.tfrecord-00000-of-00001"
    shard.write_bytes(b"".join(framed(record) for record in records))
    return [shard]


def example(values: dict[str, Any]) -> bytes:
    """A serialised tf.train.Example, after the protobuf wire format."""
    entries = b""
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            feature = field(2, field(1, value.tobytes()))
        elif isinstance(value[0], bytes):
            feature = field(1, b"".join(field(1, v) for v in value))
        else:
            feature = field(3, field(1, b"".join(varint(v % 2**64) for v in value)))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked_crc(length)) + record + struct.pack("<I", masked_crc(record))
