"""Display lists of MuJoCo's renderer, drawn anew with fewer triangles. Import it after the choice of MUJOCO_GL.

MuJoCo compiles one list per shape and draws every geom in up to four passes (mirror image, colour, shadow map, light).
So without a GPU the number of triangles is most of what a picture costs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from OpenGL import GL

# MuJoCo's numbering: a capsule is a tube with a half-sphere at either end, which stand at heights 1 to 2 and -2 to -1.
SPHERE, TOP, BOTTOM, CYLINDER, TUBE = range(5)
NUM_SHAPES = 8  # with cone, box and haze, which stay as they are

MOST_CELLS = 200  # into which MuJoCo divides a plane along one axis
FINE_CELLS = 16  # of such a plane, that are kept around the camera in each direction
CELLS_TO_MOVE = 4  # after which the fine part follows the camera


class Tessellation(NamedTuple):
    """How finely round shapes are drawn.

    rings: corners of the circles of a half-sphere, from its edge to the last one before its pole; the first of them is
        the cross-section of cylinders too
    stacks: pieces along a cylinder; they show in the shading alone
    """

    rings: tuple[int, ...]
    stacks: int


class Circle(NamedTuple):
    """A regular polygon around the z axis; one corner makes it a point on the axis."""

    corners: int
    radius: float
    height: float
    normal: tuple[float, float]  # outward and upward


def tessellate(lists: int, tessellation: Tessellation) -> None:
    """Compile the round shapes among the display lists from number `lists` on (MjrContext.baseBuiltin)."""
    edge = tessellation.rings[0]
    tube = [Circle(edge, 1, z, (1, 0)) for z in np.linspace(-1, 1, tessellation.stacks + 1)]
    lid = [Circle(edge, 1, 1, (0, 1)), Circle(1, 0, 1, (0, 1))]
    upper, top = _half_sphere(tessellation.rings, 0.0), _half_sphere(tessellation.rings, 1.0)
    shapes = {
        SPHERE: [[*_mirrored(upper)[:-1], *upper]],
        TOP: [top],
        BOTTOM: [_mirrored(top)],
        CYLINDER: [tube, lid, _mirrored(lid)],
        TUBE: [tube],
    }
    for shape, surfaces in shapes.items():
        GL.glNewList(lists + shape, GL.GL_COMPILE)
        GL.glBegin(GL.GL_TRIANGLES)
        for surface in surfaces:
            for low, high in pairwise(surface):
                _draw_band(low, high)
        GL.glEnd()
        GL.glEndList()


def _half_sphere(rings: tuple[int, ...], shift: float) -> list[Circle]:
    angles = np.pi / 2 * np.arange(len(rings)) / len(rings)
    circles = [
        Circle(n, np.cos(a), shift + np.sin(a), (np.cos(a), np.sin(a))) for n, a in zip(rings, angles, strict=True)
    ]
    return [*circles, Circle(1, 0, shift + 1, (0, 1))]


def _mirrored(surface: list[Circle]) -> list[Circle]:
    """The same surface upside down, again from its lowest circle to its highest."""
    return [c._replace(height=-c.height, normal=(c.normal[0], -c.normal[1])) for c in reversed(surface)]


def _draw_band(low: Circle, high: Circle) -> None:
    """The triangles between two circles, counter-clockwise from outside."""
    below = above = 0  # corners passed on either circle
    while below < low.corners or above < high.corners:
        here = [(low, below), (high, above)]
        if above == high.corners or (below + 1) / low.corners <= (above + 1) / high.corners:
            below += 1
            triangle, circle = [here[0], (low, below), here[1]], low
        else:
            above += 1
            triangle, circle = [here[0], (high, above), here[1]], high
        if circle.corners > 1:
            for corner in triangle:
                _draw_corner(*corner)


def _draw_corner(circle: Circle, index: int) -> None:
    angle = 2 * np.pi * (index % circle.corners) / circle.corners
    x, y = np.cos(angle), np.sin(angle)
    outward, upward = circle.normal
    GL.glNormal3d(outward * x, outward * y, upward)
    GL.glVertex3d(circle.radius * x, circle.radius * y, circle.height)


class LargePlane:
    """A plane of 200 x 200 cells, of which only those around the camera are kept; further off they grow.

    Cells matter to the light of a lamp, which is computed at their corners. Where none shines, one cell looks like the
    many that it stands for.
    """

    def __init__(self, physics: Any, geom: int, display_list: int) -> None:
        self._data = physics.data
        self._geom = geom
        self._list = display_list
        self._half = physics.model.geom_size[geom, :2].astype(float)  # half of its length in x and y
        self._centre: np.ndarray | None = None  # the lines that crossed nearest to the camera at the last `follow`

    def follow(self, camera: np.ndarray) -> None:
        """Compile the list anew if `camera`, a position in the world [3], has moved on."""
        frame = self._data.geom_xmat[self._geom].reshape(3, 3)
        x_y = ((camera - self._data.geom_xpos[self._geom]) @ frame)[:2]
        centre = np.round((x_y / self._half + 1) / 2 * _LINES).clip(0, _LINES).astype(int)
        if self._centre is None or (abs(centre - self._centre) > CELLS_TO_MOVE).any():
            self._centre = centre
            self._compile()

    def _compile(self) -> None:
        assert self._centre is not None
        xs, ys = (kept_lines(int(centre)) / _LINES for centre in self._centre)
        GL.glNewList(self._list, GL.GL_COMPILE)
        GL.glBegin(GL.GL_QUADS)
        GL.glNormal3d(0, 0, 1)
        for left, right in pairwise(xs):
            for low, high in pairwise(ys):
                for x, y in ((left, low), (right, low), (right, high), (left, high)):
                    GL.glTexCoord2d(x, 1 - y)
                    GL.glVertex3d((2 * x - 1) * self._half[0], (2 * y - 1) * self._half[1], 0)
        GL.glEnd()
        GL.glEndList()


_LINES = MOST_CELLS - 2  # the last of a plane so divided, counted from 0; its outermost cells have no width


def kept_lines(centre: int) -> np.ndarray:
    """Of the lines 0 to 198 those that are kept around `centre`: all within FINE_CELLS, then at doubling distances."""
    coarse = FINE_CELLS + np.cumsum(2 ** np.arange(1, 8))
    offsets = np.concatenate([np.arange(FINE_CELLS + 1), coarse])
    return np.unique(np.concatenate([centre - offsets, centre + offsets]).clip(0, _LINES))


def large_planes(physics: Any, lists: int) -> list[LargePlane]:
    """The planes that MuJoCo divides most finely along both axes; `lists` is MjrContext.basePlane."""
    model = physics.model
    planes = np.flatnonzero(model.geom_type == 0)
    # Number 0 is for planes without a geom.
    return [
        LargePlane(physics, int(geom), lists + 1 + number)
        for number, geom in enumerate(planes)
        if (model.geom_size[geom, :2] >= MOST_CELLS * model.geom_size[geom, 2]).all()
    ]
