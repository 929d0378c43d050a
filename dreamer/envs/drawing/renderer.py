"""Pictures of a simulation, in one of five modes between exact and fast. Import it after the choice of MUJOCO_GL.

docs/rendering.md has what each mode changes, how fast it is, and by how much its pictures differ.
"""

from __future__ import annotations

import atexit
import importlib
import weakref
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from dm_control.mujoco import engine, wrapper
from OpenGL import GL

from dreamer.envs.drawing.gl_context import current, open_context
from dreamer.envs.drawing.shapes import NUM_SHAPES, LargePlane, Tessellation, large_planes, tessellate

mujoco: Any = importlib.import_module("mujoco")  # compiled, so that a type checker finds nothing in it


class Quality(NamedTuple):
    """What a mode draws with; None leaves it as the model says.

    shadow_size: texels along a side of the shadow map
    tessellation: of round shapes; with one of its own, floors are drawn with less as well
    """

    shadow_size: int | None = None
    tessellation: Tessellation | None = None


# MuJoCo's own tessellation is rings of 28 corners, eight to a half-sphere, and 16 stacks.
QUALITIES = {
    "lossless": Quality(),
    "near": Quality(768, Tessellation(rings=(28, 28, 28, 28, 28, 14, 14, 7), stacks=4)),
    "near2": Quality(512, Tessellation(rings=(28, 28, 14, 14), stacks=2)),
    "fast": Quality(256, Tessellation(rings=(16, 12, 6), stacks=1)),
}


@runtime_checkable
class Renderer(Protocol):
    """Draws one camera of one simulation. Any thread may call it, one at a time."""

    def render(self) -> np.ndarray:
        """The picture of the simulation's state, uint8 [size size 3]."""
        ...

    def close(self) -> None:
        """Free what the pictures needed; nothing may be drawn afterwards."""
        ...


def make_renderer(physics: engine.Physics, size: int, camera: int, mode: str) -> Renderer:
    """The renderer of `env.render=mode`; camera -1 is the free one."""
    if mode == "reference":
        return ReferenceRenderer(physics, size, camera)
    return SceneRenderer(physics, size, camera, QUALITIES[mode])


class ReferenceRenderer:
    """`physics.render` itself."""

    def __init__(self, physics: engine.Physics, size: int, camera: int) -> None:
        self._physics = physics
        self._size = size
        self._camera = camera
        # The off-screen buffer is made with the first picture; a model brings 640x480 unless told.
        buffer = physics.model.vis.global_
        buffer.offwidth, buffer.offheight = max(buffer.offwidth, size), max(buffer.offheight, size)

    def render(self) -> np.ndarray:
        physics = self._physics
        if not physics._contexts:
            buffer = physics.model.vis.global_
            context = open_context(buffer.offwidth, buffer.offheight)
            with current(context):
                physics._contexts = engine.Contexts(context, wrapper.MjrContext(physics.model, context))
        contexts: Any = physics.contexts
        with current(contexts.gl):
            pixels = physics.render(self._size, self._size, camera_id=self._camera)
        return np.ascontiguousarray(pixels)  # OpenGL's rows run upward, so this was a flipped view

    def close(self) -> None:
        """Nothing to do: its contexts belong to the simulation, and go with it."""


class SceneRenderer:
    """The same scene through MuJoCo's renderer with a context, a scene and display lists of its own."""

    def __init__(self, physics: engine.Physics, size: int, camera: int, quality: Quality) -> None:
        self._physics = physics
        self._quality = quality
        self._rectangle = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        self._option = wrapper.MjvOption()
        self._perturbation = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.fixedcamid = camera
        self._model: Any = None  # what the members below were made for; None before the first picture
        self._context: Any = None
        self._drawing: Any = None  # MuJoCo's side of the context
        self._scene: Any
        self._planes: list[LargePlane]
        self._heights: np.ndarray
        self._at_exit = partial(_close, weakref.ref(self))

    def render(self) -> np.ndarray:
        physics = self._physics
        if self._model is not physics.model.ptr:
            self.close()
            self._open()
        mujoco.mjv_updateScene(
            physics.model.ptr, physics.data.ptr, self._option, self._perturbation, self._camera,
            mujoco.mjtCatBit.mjCAT_ALL, self._scene,
        )  # fmt: skip
        if self._quality.tessellation is not None:
            _spare_floors(self._scene)
        with current(self._context):
            self._follow()
            mujoco.mjr_render(self._rectangle, self._scene, self._drawing)
            mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._drawing)
        return self._pixels[::-1].copy()  # OpenGL's rows run upward

    def close(self) -> None:
        if self._context is None:
            return
        if self._drawing is not None:
            with current(self._context):
                self._drawing.free()
        self._context.free()
        self._context = self._drawing = self._model = None
        atexit.unregister(self._at_exit)

    def __del__(self) -> None:
        self.close()

    def _open(self) -> None:
        model, size = self._physics.model, self._rectangle.width
        if self._camera.fixedcamid == -1:
            mujoco.mjv_defaultFreeCamera(model.ptr, self._camera)
        else:
            self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._scene = wrapper.MjvScene(model)
        self._heights = model.hfield_data.copy()
        self._context = open_context(size, size)
        with current(self._context):
            self._drawing = _draw_with(model, size, self._quality.shadow_size)
            self._planes = []
            if self._quality.tessellation is not None:
                assert self._drawing.rangeBuiltin == NUM_SHAPES, self._drawing.rangeBuiltin
                tessellate(self._drawing.baseBuiltin, self._quality.tessellation)
                self._planes = large_planes(self._physics, self._drawing.basePlane)
        self._model = model.ptr
        # Before the contexts of dm_control, which come first of all, and long before Python would collect this.
        atexit.register(self._at_exit)

    def _follow(self) -> None:
        """Bring up to date what was compiled from the simulation's earlier state."""
        model = self._physics.model
        if not np.array_equal(self._heights, model.hfield_data):  # a terrain, drawn anew at a reset
            self._heights = model.hfield_data.copy()
            for index in range(model.nhfield):
                mujoco.mjr_uploadHField(model.ptr, self._drawing, index)
        for plane in self._planes:
            plane.follow(np.mean([camera.pos for camera in self._scene.camera], axis=0))


def _spare_floors(scene: Any) -> None:
    """Leave floors out of the shadow map, all of which they would fill; what their shadow falls on, they hide."""
    for geom in scene.geoms[: scene.ngeom]:
        if geom.type == mujoco.mjtGeom.mjGEOM_PLANE and geom.mat[2, 2] > 0.99:
            geom.category = mujoco.mjtCatBit.mjCAT_DECOR


def _draw_with(model: wrapper.MjModel, size: int, shadow_size: int | None) -> Any:
    """MuJoCo's side of the current context. The model stays as it is, since `physics.render` reads it as well."""
    quality, buffer = model.vis.quality, model.vis.global_
    before = quality.shadowsize, buffer.offwidth, buffer.offheight
    if shadow_size is not None:
        quality.shadowsize = min(quality.shadowsize, shadow_size)
    buffer.offwidth = buffer.offheight = size  # it is cleared as a whole for every picture
    try:
        drawing = mujoco.MjrContext(model.ptr, mujoco.mjtFontScale.mjFONTSCALE_50)
    finally:
        quality.shadowsize, buffer.offwidth, buffer.offheight = before
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawing)
    if drawing.shadowSize:  # the same 24 bits of depth without the stencil beside them, which nobody reads
        side = drawing.shadowSize
        GL.glBindTexture(GL.GL_TEXTURE_2D, drawing.shadowTex)
        GL.glTexImage2D(
            GL.GL_TEXTURE_2D, 0, GL.GL_DEPTH_COMPONENT24, side, side, 0, GL.GL_DEPTH_COMPONENT, GL.GL_UNSIGNED_INT, None
        )
    return drawing


def _close(renderer: weakref.ref[SceneRenderer]) -> None:
    alive = renderer()
    if alive is not None:
        alive.close()
