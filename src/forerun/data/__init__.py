"""What happened: recordings as named streams, each on its own clock."""

from forerun.data.episode import Aligned, Episode, Recordings, Stream, align, newest_before
from forerun.data.formats import open_recordings
from forerun.data.lerobot_writer import LeRobotWriter, write_lerobot
from forerun.data.live import LiveRecorder
from forerun.data.touch import arrived, blocks, felt_at
from forerun.data.video import resize_video
from forerun.data.video_writer import write_video

__all__ = [
    "Aligned",
    "Episode",
    "LeRobotWriter",
    "LiveRecorder",
    "Recordings",
    "Stream",
    "align",
    "arrived",
    "blocks",
    "felt_at",
    "newest_before",
    "open_recordings",
    "resize_video",
    "write_lerobot",
    "write_video",
]
