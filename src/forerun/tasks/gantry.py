"""The table, cameras and three-axis gantry that Reach and PickPlace share.

World: x to the right (+-0.2 m), y away from the front (+-0.125 m), z up from the table (0-0.15 m). The
picture is split: above, the table from straight above (x, y), 5/8 of the height; below, the same scene from
the front (x, z), 3/8. Both are orthographic, 6.25 mm to a pixel at 64 x 64, so that every position shows.
"""

from __future__ import annotations

from forerun.tasks.scene import FLAT

TIMESTEP_S, SUBSTEPS = 0.004, 25
SPEED_MPS = 0.25
REACH_M = ((-0.15, 0.15), (-0.09, 0.09), (0.016, 0.11))
"""Lowest and highest x, y, z of the tool's working point."""
VIEWS = (("top", 0.625), ("front", 0.375))

_RIMS = "".join(
    f'<geom type="box" size="{sx} {sy} 0.003" pos="{x} {y} 0.003" rgba="0.5 0.48 0.45 1" friction="0.2"/>'
    for sx, sy, x, y in (
        (0.004, 0.118, 0.176, 0),
        (0.004, 0.118, -0.176, 0),
        (0.18, 0.004, 0, 0.114),
        (0.18, 0.004, 0, -0.114),
    )
)

_AXIS = """
    <body name="axis_{name}" gravcomp="1">
      <joint name="{name}" type="slide" axis="{way}" limited="true" range="{low} {high}"/>
      <inertial pos="0 0 0" mass="0.3" diaginertia="1e-3 1e-3 1e-3"/>"""


def gantry_xml(name: str, tool: str, objects: str = "", extras: str = "") -> str:
    """The MJCF of a scene: ``tool`` hangs at the working point, ``objects`` lie on the table."""
    ways = zip("xyz", ("1 0 0", "0 1 0", "0 0 1"), REACH_M, strict=True)
    joints = "".join(_AXIS.format(name=name, way=way, low=low, high=high) for name, way, (low, high) in ways)
    motors = "".join(f'<velocity joint="{axis}" kv="5000" forcerange="-12 12"/>' for axis in "xyz")
    return f"""
<mujoco model="{name}">
  <option timestep="{TIMESTEP_S}" cone="elliptic" impratio="50" integrator="implicitfast" tolerance="1e-7"/>
  {FLAT.format(ambient="1 1 1", diffuse="0 0 0")}
  <worldbody>
    <camera name="top" pos="0 0 0.6" projection="orthographic" fovy="0.25"/>
    <camera name="front" pos="0 -0.6 0.075" xyaxes="1 0 0 0 0 1" projection="orthographic" fovy="0.15"/>
    <geom type="plane" size="1 1 1" rgba="0.85 0.84 0.8 1" friction="0.6"/>
    <geom type="box" size="0.4 0.01 0.2" pos="0 0.3 0.2" rgba="0.95 0.95 0.97 1" contype="0" conaffinity="0"/>
    {_RIMS}
    {joints}{tool}</body></body></body>
    {objects}
  </worldbody>
  <actuator>{motors}{extras}</actuator>"""
