"""What docs/serving.md shows runs, on the world that comes with forerun."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forerun.cli.runs import open_run
from forerun.cli.serve import packaged_world, recorded_starts
from forerun.serving.client import connect
from served import served

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_page_runs(code: str) -> None:
    run = open_run(packaged_world())
    with served(model=run.model, starts=recorded_starts(run, None, 2)) as live:
        exec(code.replace("ws://127.0.0.1:8600", live.url), {})


def test_the_packaged_world_foresees_more_grip_where_more_is_asked_for() -> None:
    run, grips = open_run(packaged_world()), {}
    moments = recorded_starts(run, None, 12)
    with served(model=run.model, starts=moments) as live, connect(live.url) as server:
        for grip in (0.0, 8.0):
            world = server.open(start=1)
            for _ in range(8):
                seen = world.step([0.0, grip])
            grips[grip] = float(seen.heads["normal_force"].mean())
    assert grips[8.0] > grips[0.0] + 1.0
