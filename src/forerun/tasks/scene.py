"""MuJoCo scenes: compiled models and one off-screen renderer, shared by all environments of a process."""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import os
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from forerun.types import MissingExtraError, RenderError, require

FLAT = """
  <visual>
    <global offwidth="512" offheight="512"/>
    <quality shadowsize="0" offsamples="0" numquads="1" numslices="20" numstacks="8"/>
    <headlight ambient="{ambient}" diffuse="{diffuse}" specular="0 0 0"/>
    <map znear="0.05" zfar="10"/>
  </visual>"""
"""No shadows, reflections or multisampling, few facets: forty times faster on a CPU."""


def load_mujoco() -> Any:
    """The mujoco package, set to draw without a display if the user chose no MUJOCO_GL.

    Raises:
        MissingExtraError: mujoco is not installed.
        RenderError: it is, but not the OpenGL platform that MUJOCO_GL asks for.
    """
    if sys.platform == "linux" and "mujoco" not in sys.modules:
        os.environ.setdefault("MUJOCO_GL", _platform())
    # Mesa's software rasteriser on the calling thread: small pictures come twice as fast as from its helpers.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        return require("mujoco", "sim", "this simulated task")
    except MissingExtraError as cause:
        if isinstance(cause.__cause__, ModuleNotFoundError):
            raise
        raise _no_platform(cause) from cause
    except (AttributeError, RuntimeError) as cause:  # what PyOpenGL raises without its library
        raise _no_platform(cause) from cause


def _platform() -> str:
    """EGL where it has a device, else OSMesa, else none: physics works without pictures."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        egl.eglGetProcAddress.restype = ctypes.c_void_p
        query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
        devices = ctypes.c_int(0)
        address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
        if address and query(address)(0, None, ctypes.byref(devices)) and devices.value:
            return "egl"
    except OSError:
        pass
    return "osmesa" if ctypes.util.find_library("OSMesa") else "disabled"


def _no_platform(cause: Exception) -> RenderError:
    return RenderError(
        f"no OpenGL platform can draw camera pictures here (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}, "
        f"{type(cause).__name__}); expected EGL or OSMesa. Run: apt-get install libegl1 libegl-mesa0 (or "
        "libosmesa6), and leave MUJOCO_GL unset"
    )


@lru_cache(maxsize=8)
def compile_scene(xml: str) -> Any:
    """The model for this XML, compiled once per process."""
    return load_mujoco().MjModel.from_xml_string(xml)


class _Renderers(threading.local):
    """OpenGL contexts belong to one thread of one process. Entries keep their model: its id stays its own."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.by_model: dict[tuple[int, int, int], tuple[Any, Any]] = {}
        self.inherited: list[Any] = []


_renderers = _Renderers()


def renderer(model: Any, height: int, width: int) -> Any:
    """The renderer for pictures of this size of this model, made at first use."""
    if _renderers.process != os.getpid():  # after a fork; freeing the parent's contexts here would crash
        _renderers.inherited.append(_renderers.by_model)
        _renderers.process, _renderers.by_model = os.getpid(), {}
    key = (id(model), height, width)
    if key not in _renderers.by_model:
        _renderers.by_model[key] = model, _make_renderer(model, height, width)
    return _renderers.by_model[key][1]


@atexit.register
def _close_renderers() -> None:
    """Free the main thread's contexts while the OpenGL library is still loaded."""
    if _renderers.process == os.getpid():
        for _, made in _renderers.by_model.values():
            made.close()
        _renderers.by_model.clear()


def _make_renderer(model: Any, height: int, width: int) -> Any:
    try:
        return load_mujoco().Renderer(model, height, width)
    except Exception as cause:
        raise _no_platform(cause) from cause


class Scene:
    """One simulated world: a shared model and its own data.

    Determinism: the solver's warm start is cleared before every control step, so positions and velocities
    are the whole state.

    Args:
        xml: the scene.
        substeps: physics steps per control step.
        views: cameras whose pictures are stacked into one, and the share of its height each takes.
    """

    def __init__(
        self, xml: str, substeps: int, views: Sequence[tuple[str, float]] = (("camera", 1.0),)
    ) -> None:
        self.mujoco = load_mujoco()
        self.model = compile_scene(xml)
        self.data = self.mujoco.MjData(self.model)
        self.substeps, self.views = substeps, views
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
        return np.concatenate([self._view(camera, round(share * size), size) for camera, share in self.views])

    def _view(self, camera: str, height: int, width: int) -> np.ndarray:
        view = renderer(self.model, height, width)
        view.update_scene(self._shown, camera=camera)
        return view.render()
