"""MuJoCo scenes: compiled models and one off-screen renderer, shared by all environments of a process."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Any

import numpy as np

from forerun.types import RenderError, require

FLAT = """
  <visual>
    <global offwidth="512" offheight="512"/>
    <quality shadowsize="0" offsamples="0"/>
    <headlight ambient="{ambient}" diffuse="{diffuse}" specular="0 0 0"/>
    <map znear="0.05" zfar="10"/>
  </visual>"""
"""No shadows, reflections or multisampling: forty times faster on a CPU."""


def load_mujoco() -> Any:
    """The mujoco package, set to draw without a display if the user chose no MUJOCO_GL."""
    os.environ.setdefault("MUJOCO_GL", "egl" if _egl_works() else "osmesa")
    return require("mujoco", "sim", "this simulated task")


def _egl_works() -> bool:
    import ctypes.util

    return ctypes.util.find_library("EGL") is not None


@lru_cache(maxsize=8)
def compile_scene(xml: str) -> Any:
    """The model for this XML, compiled once per process."""
    return load_mujoco().MjModel.from_xml_string(xml)


class _Renderers(threading.local):
    """OpenGL contexts belong to one thread of one process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.by_model: dict[tuple[int, int], Any] = {}


_renderers = _Renderers()


def renderer(model: Any, size: int) -> Any:
    """The renderer for square pictures of this model, made at first use."""
    if _renderers.process != os.getpid():
        _renderers.__init__()
    key = (id(model), size)
    if key not in _renderers.by_model:
        _renderers.by_model[key] = _make_renderer(model, size)
    return _renderers.by_model[key]


def _make_renderer(model: Any, size: int) -> Any:
    try:
        return load_mujoco().Renderer(model, size, size)
    except Exception as cause:
        raise RenderError(
            f"no OpenGL platform can draw camera pictures here (MUJOCO_GL={os.environ.get('MUJOCO_GL')}, "
            f"{type(cause).__name__}); expected EGL or OSMesa: apt-get install libegl1 libegl-mesa0, or "
            "libosmesa6 with MUJOCO_GL=osmesa"
        ) from cause


class Scene:
    """One simulated world: a shared model, its own data, and a camera called "camera".

    Determinism: the solver's warm start is cleared before every control step, so positions and velocities are
    the whole state.
    """

    def __init__(self, xml: str, substeps: int) -> None:
        self.mujoco = load_mujoco()
        self.model = compile_scene(xml)
        self.data = self.mujoco.MjData(self.model)
        self.substeps = substeps
        self._shown = self.mujoco.MjData(self.model)

    def state(self) -> np.ndarray:
        """qpos then qvel, float64."""
        return np.concatenate([self.data.qpos, self.data.qvel])

    def set_state(self, state: np.ndarray) -> None:
        self.mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = state[: self.model.nq]
        self.data.qvel[:] = state[self.model.nq :]

    def advance(self, control: np.ndarray) -> None:
        """One control step at constant ``control``."""
        self.data.ctrl[:] = control
        self.data.qacc_warmstart[:] = 0
        self.mujoco.mj_step(self.model, self.data, self.substeps)

    def picture(self, state: np.ndarray | None, size: int) -> np.ndarray:
        """(size, size, 3) uint8 at ``state``, or now; the simulation is left alone."""
        qpos = self.data.qpos if state is None else state[: self.model.nq]
        self._shown.qpos[:] = qpos
        self.mujoco.mj_kinematics(self.model, self._shown)
        self.mujoco.mj_camlight(self.model, self._shown)
        view = renderer(self.model, size)
        view.update_scene(self._shown, camera="camera")
        return view.render()
