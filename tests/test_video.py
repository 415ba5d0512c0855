"""Frames of video files: which, in which order, at which size, and what damaged files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from forerun.data import resize_video, write_video
from forerun.data.video import VideoFrames, index_video, read_frames
from forerun.types import ConfigError, DataError, StorageError
from sample_recordings import FPS, HEIGHT, WIDTH, clip, frame_numbers, stream

N = 30


def gif(path: Path, frames: np.ndarray, durations_ms: int | list[int]) -> Path:
    first, *others = [Image.fromarray(f) for f in frames]
    first.save(path, save_all=True, append_images=others, duration=durations_ms)
    return path


def with_b_frames(path: Path, codec: str) -> Path:
    container = av.open(str(path), "w")
    track = container.add_stream(codec, rate=FPS)
    track.width, track.height, track.pix_fmt = WIDTH, HEIGHT, "yuv420p"  # type: ignore[attr-defined]
    track.codec_context.gop_size, track.codec_context.max_b_frames = 12, 3  # type: ignore[attr-defined]
    track.bit_rate = 4_000_000  # type: ignore[attr-defined]
    for picture in clip(N):
        container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))  # type: ignore[attr-defined]
    container.mux(track.encode(None))  # type: ignore[attr-defined]
    container.close()
    return path


FILES = {
    "h264.mp4": lambda p: write_video(p, clip(N), FPS),
    "444.mkv": lambda p: write_video(p, clip(N), FPS, pix_fmt="yuv444p"),
    "vp9.webm": lambda p: write_video(p, clip(N), FPS, codec="libvpx-vp9"),
    "av1.mp4": lambda p: write_video(p, clip(N), FPS, codec="libsvtav1", gop=2),
    "mpeg4.avi": lambda p: write_video(p, clip(N), FPS, codec="mpeg4"),
    "b.mp4": lambda p: with_b_frames(p, "libx264"),
    "b.avi": lambda p: with_b_frames(p, "mpeg4"),
    "film.gif": lambda p: gif(p, clip(N), 1000 // FPS),
}


@pytest.fixture(params=FILES)
def film(request, tmp_path) -> Path:
    return FILES[request.param](tmp_path / request.param)


def test_every_frame_is_found_in_any_order(film):
    assert index_video(film).num_frames == N
    assert frame_numbers(read_frames(film, np.arange(N))) == list(range(N))
    order = np.random.default_rng(0).permutation(N)
    assert frame_numbers(read_frames(film, order)) == order.tolist()
    assert frame_numbers(read_frames(film, np.asarray([7, 7, 3, 29, 0, 7]))) == [7, 7, 3, 29, 0, 7]


def test_a_frame_is_the_same_however_it_is_reached(film):
    straight = read_frames(film, np.arange(N))
    for k in (29, 13, 14, 0, 21):
        assert np.array_equal(read_frames(film, np.asarray([k]))[0], straight[k])


def test_a_constant_rate_is_recognised_and_frames_are_picked_by_index(film):
    index = index_video(film)
    assert index.constant_rate
    assert index.rate_hz == pytest.approx(FPS)
    times = np.arange(N) / FPS + 0.3 / FPS * np.sin(np.arange(N))
    assert index.frames_at(times).tolist() == list(range(N))


def test_a_variable_rate_picks_frames_by_their_time_stamps(tmp_path):
    index = index_video(gif(tmp_path / "a.gif", clip(6), [100, 100, 500, 100, 500, 100]))
    assert not index.constant_rate
    assert np.allclose(index.times_s, [0, 0.1, 0.2, 0.7, 0.8, 1.3])
    assert index.frames_at(np.asarray([0.0, 0.69, 0.79, 1.31])).tolist() == [0, 3, 4, 5]


def test_frames_shrunk_while_decoding_are_area_averages(tmp_path):
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 256, (5, HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    path = write_video(tmp_path / "a.mp4", blocks, FPS, crf=4, pix_fmt="yuv444p")
    whole = stream("cam", "video", blocks)
    small = resize_video(whole, HEIGHT // 4, WIDTH // 4)
    decoded = read_frames(path, np.arange(5), height=HEIGHT // 4, width=WIDTH // 4)
    assert small.spec.shape == decoded.shape[1:]
    assert np.array_equal(small.read(), blocks[:, ::4, ::4])
    assert np.abs(decoded.astype(int) - small.read()).mean() < 4


def test_resizing_to_the_present_size_changes_nothing():
    whole = stream("cam", "video", clip(3))
    assert resize_video(whole, HEIGHT, WIDTH) is whole


def test_a_64_pixel_picture_survives_crf_12_in_full_colour(tmp_path):
    sharp = np.zeros((8, 64, 64, 3), dtype=np.uint8)
    for k in range(8):
        sharp[k, 20:30, 4 * k : 4 * k + 12] = (220, 30, 40)
        sharp[k, 40:50, 40:50] = (20, 200, 90)
    path = write_video(tmp_path / "a.mp4", sharp, FPS, crf=12, pix_fmt="yuv444p")
    assert np.abs(read_frames(path, np.arange(8)).astype(int) - sharp).mean() < 1.0


def test_a_key_frame_comes_at_least_every_gop(tmp_path):
    for gop in (1, 5, 10):
        keys = index_video(write_video(tmp_path / f"{gop}.mp4", clip(N), FPS, gop=gop)).key_frames
        assert keys[0] == 0
        assert np.diff([*keys, N]).max() <= gop


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(5), FPS)
    assert frame_numbers(read_frames(path, np.asarray([1]))) == [1]
    path.unlink()
    write_video(path, clip(8, first=10), FPS)
    assert frame_numbers(read_frames(path, np.asarray([1, 7]))) == [11, 17]


def test_more_files_than_open_decoders_can_be_read_in_turn(tmp_path):
    paths = [write_video(tmp_path / f"{i}.mp4", clip(4, first=i), FPS) for i in range(12)]
    for _ in range(2):
        assert [frame_numbers(read_frames(p, np.asarray([2])))[0] for p in paths] == [
            i + 2 for i in range(12)
        ]


def truncated(path: Path) -> Path:
    rng = np.random.default_rng(0)
    whole = write_video(path, rng.integers(0, 255, (N, 64, 64, 3), dtype=np.uint8), FPS)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return whole


def corrupt(path: Path) -> Path:
    rng = np.random.default_rng(0)
    whole = write_video(path, rng.integers(0, 255, (N, 64, 64, 3), dtype=np.uint8), FPS)
    content = bytearray(whole.read_bytes())
    content[len(content) // 3 : -2000] = b"\xff" * (len(content) - 2000 - len(content) // 3)
    whole.write_bytes(content)
    return whole


def touched(path: Path) -> Path:
    path.touch()
    return path


def text(path: Path) -> Path:
    path.write_text("this is no video")
    return path


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda p: p, "is missing"),
        (touched, r"is empty \(0 bytes\)"),
        (text, r"16 bytes\) cannot be opened"),
        (truncated, r"holds \d+ frames where its header promises 30"),
        (corrupt, "cannot be decoded"),
    ],
    ids=["missing", "empty", "text", "truncated", "corrupt"],
)
def test_a_damaged_video_says_what_was_found_and_what_to_do(tmp_path, make, found):
    path = make(tmp_path / "film.mp4")
    with pytest.raises(DataError, match=found) as caught:
        read_frames(path, np.arange(N))
    assert "film.mp4" in str(caught.value)
    assert any(verb in str(caught.value).lower() for verb in ("restore", "record", "copy"))
    assert str(caught.value).rstrip(").").endswith(str(path))  # private paths come last


def test_a_frame_beyond_the_end_names_both_counts(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(5), FPS)
    with pytest.raises(DataError, match=r"frame 5 was asked for; the video a\.mp4 has 5 frames"):
        read_frames(path, np.asarray([0, 5]))


def test_a_video_shorter_than_its_table_is_out_of_step(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(5), FPS)
    longer = VideoFrames(path, HEIGHT, WIDTH, times_s=np.arange(7) / FPS)
    with pytest.raises(DataError, match=r"has 5 frames .* expects 2 more, .* out of step"):
        longer(np.asarray([0]))


def test_a_video_of_another_size_than_declared_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(5), FPS)
    wrong = VideoFrames(path, 32, 32, native=(32, 32), times_s=np.arange(5) / FPS)
    with pytest.raises(DataError, match=r"are 16 x 24 .* declares 32 x 32"):
        wrong(np.asarray([0]))


@pytest.mark.parametrize(
    ("frames", "options", "error", "says"),
    [
        (clip(0), {}, DataError, "no picture"),
        (clip(3)[:, :15], {}, ConfigError, "15 x 24 cannot be stored as yuv420p"),
        (clip(3), {"codec": "nonsense"}, ConfigError, "'nonsense' is not in this FFmpeg"),
        ([*clip(2), clip(1)[0, :8]], {}, DataError, "shape"),
        (clip(3).astype(np.float32), {}, DataError, "float32"),
    ],
    ids=["none", "odd", "codec", "sizes", "type"],
)
def test_a_video_that_cannot_be_written_leaves_nothing(tmp_path, frames, options, error, says):
    with pytest.raises(error, match=says):
        write_video(tmp_path / "a.mp4", frames, FPS, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_video_leaves_nothing(tmp_path):
    def interrupted():
        yield from clip(8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", interrupted(), FPS)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_video_is_not_overwritten(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(3), FPS)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="exists already"):
        write_video(path, clip(9), FPS)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_hold_a_video_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written: Not a directory"):
        write_video(tmp_path / "file" / "a.mp4", clip(3), FPS)


FULL_DISK = """
import resource, signal, sys
import numpy as np
from forerun.data import write_video
from forerun.types import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
noise = np.random.default_rng(0).integers(0, 255, (120, 64, 64, 3), dtype=np.uint8)
try:
    write_video(sys.argv[1], noise, 10, crf=4)
except StorageError as error:
    print(error)
"""


def test_a_full_disk_leaves_no_video_behind(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.mp4")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "a.mp4 cannot be written: File too large" in said
    assert list(tmp_path.iterdir()) == []
