"""OpenGL contexts of dm_control that any thread may use in turn. Import it after the choice of MUJOCO_GL.

A context is current on one thread at a time, and dm_control remembers which. Here nothing stays current between two
pictures, and dm_control is told so. Hence an environment may move to another thread between two steps, and its own
contexts and those of `physics.render` do not draw into each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dm_control import _render
from dm_control._render import base, constants, executor

_thread = threading.local()


def open_context(width: int, height: int) -> Any:
    """A new context, whose calls run on the thread that makes them.

    dm_control would give each context of OSMesa a thread of its own. That thread has ended before contexts are freed
    at exit, which then fails with pages of messages.
    """
    if _render.BACKEND in constants.OSMESA:
        return _render.Renderer(width, height, executor.PassthroughRenderExecutor)
    return _render.Renderer(width, height)


@contextmanager
def current(context: Any) -> Iterator[None]:
    """Inside, `context` is current on this thread; afterwards what was current before, or nothing.

    They nest because the garbage collector may free one environment while another is drawn.
    """
    outer = getattr(_thread, "context", None)
    with context.make_current():
        _thread.context = context
        try:
            yield
        finally:
            _thread.context = outer
            _release(context)
            if outer is not None:
                with outer.make_current():
                    pass


def _release(context: Any) -> None:
    """Leave this thread without a current context, and let dm_control know."""
    if _render.BACKEND in constants.EGL:
        from dm_control._render.pyopengl.egl_renderer import EGL, EGL_DISPLAY

        EGL.eglMakeCurrent(EGL_DISPLAY, EGL.EGL_NO_SURFACE, EGL.EGL_NO_SURFACE, EGL.EGL_NO_CONTEXT)
    elif _render.BACKEND in constants.OSMESA:
        from OpenGL import GL, osmesa

        osmesa.OSMesaMakeCurrent(None, None, GL.GL_FLOAT, 0, 0)
    else:
        import glfw

        glfw.make_context_current(None)  # pyright: ignore[reportArgumentType]
    thread = base._CURRENT_THREAD_FOR_CONTEXT.pop(id(context), None)
    base._CURRENT_CONTEXT_FOR_THREAD.pop(thread, None)
