"""What happened: recordings as named streams, each on its own clock."""

from forerun.data.episode import Aligned, Episode, Recordings, Stream, align, newest_before
from forerun.data.formats import open_recordings
from forerun.data.lerobot_writer import LeRobotWriter, write_lerobot
from forerun.data.video import resize_video
from forerun.data.video_writer import write_video

__all__ = [
    "Aligned",
    "Episode",
    "LeRobotWriter",
    "Recordings",
    "Stream",
    "align",
    "newest_before",
    "open_recordings",
    "resize_video",
    "write_lerobot",
    "write_video",
]
