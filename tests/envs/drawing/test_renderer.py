"""Every mode of drawing against `physics.render`: on all tasks, on several threads, with both backends of Linux."""

from __future__ import annotations

import csv
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.envs.suites.dmc import DMC

with (Path(__file__).parents[3] / "results" / "published.csv").open(encoding="utf-8") as file:
    TASKS = sorted({row["task"] for row in csv.DictReader(file) if row["observation"] == "vision"})  # the usual 20
FEW = ("cheetah_run", "quadruped_run", "walker_walk")  # limbs, a terrain and a thinned floor, the default
MODES = ["reference", "lossless", "near", "near2", "fast"]

# Mean difference of a value of 0 to 255, and percent of pixels of which a value is off by more than 3, at 64x64.
# docs/rendering.md has what was measured. Here is room for single pictures, in which the shadow map of another size may
# light a whole limb otherwise.
BOUNDS = {"reference": (0, 0), "lossless": (0, 0), "near": (0.2, 1.5), "near2": (0.4, 3), "fast": (0.8, 7)}
OTHER_MODES = [("near", "fast"), ("reference", "reference")]
NOISE = 0.01  # of the mean: OpenGL may return single pixels that differ from one context to the next

SCENE = """
<mujoco>
  <worldbody>
    <light pos="1 -1 4" dir="-.2 .2 -1"/>
    <geom type="plane" size="3 3 .1"/>
    <geom type="capsule" size=".2 .4" pos="-1 0 .9" euler="30 50 0"/>
    <geom type="sphere" size=".4" pos="0 0 .6"/>
    <geom type="ellipsoid" size=".2 .3 .5" pos="1 0 .8" euler="0 30 0"/>
    <geom type="cylinder" size=".3 .3" pos="0 1.2 .8" euler="40 0 0"/>
    <camera name="side" pos="0 -4 2.5" xyaxes="1 0 0 0 .5 1"/>
  </worldbody>
</mujoco>
"""

pytestmark = pytest.mark.usefixtures("renderer")


def make(physics: Any, mode: str, camera: int = 0, size: int = 64) -> Any:
    from dreamer.envs.drawing.renderer import make_renderer

    return make_renderer(physics, size, camera, mode)


def scene() -> Any:
    from dreamer.envs.drawing.backend import choose_backend

    choose_backend()
    from dm_control import mujoco

    return mujoco.Physics.from_xml_string(SCENE)


def difference(left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Mean, and percent of pixels off by more than 3."""
    gap = np.abs(left.astype(int) - right.astype(int))
    return float(gap.mean()), float((gap.max(-1) > 3).mean() * 100)


def camera_of(name: str) -> int:
    return 2 if name.startswith("quadruped") else 0


class Pictures(NamedTuple):
    reference: list[np.ndarray]
    own: dict[str, list[np.ndarray]]


@pytest.fixture(
    scope="module", params=[task if task in FEW else pytest.param(task, marks=pytest.mark.slow) for task in TASKS]
)
def pictures(request: pytest.FixtureRequest) -> Iterator[Pictures]:
    """Two states of a task in every mode."""
    env = DMC(request.param, "proprio", 2, 64, 0)
    physics, camera = env._env.physics, camera_of(request.param)
    renderers = {mode: make(physics, mode, camera) for mode in MODES}
    found = Pictures([], {mode: [] for mode in MODES})
    rng = np.random.default_rng(0)
    env.reset(3)
    for num_actions in (0, 12):
        for _ in range(num_actions):
            env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        for mode, renderer in renderers.items():
            found.own[mode].append(renderer.render())
        found.reference.append(physics.render(64, 64, camera_id=camera).copy())
    for renderer in renderers.values():
        renderer.close()
    env.close()
    yield found


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_keeps_within_its_bounds_on_every_task(pictures: Pictures, mode: str) -> None:
    mean, off = np.mean([difference(*pair) for pair in zip(pictures.own[mode], pictures.reference, strict=True)], 0)
    most, most_off = BOUNDS[mode]
    assert mean <= max(most, NOISE) and off <= max(most_off, 0.1), (mean, off)
    assert not np.array_equal(*pictures.own[mode])


def test_vision_is_drawn_in_the_mode_that_the_config_asks_for() -> None:
    shots = {}
    for mode in MODES:
        env = make_env(EnvConfig(suite="dmc", name="walker_walk", render=mode))
        shots[mode] = env.reset(0).obs["image"]
        np.testing.assert_array_equal(shots[mode], env.env.image())
        env.close()
    assert difference(shots["lossless"], shots["reference"])[0] <= NOISE
    gaps = [difference(shots[mode], shots["reference"])[0] for mode in ("near", "near2", "fast")]
    assert 0 < gaps[0] < gaps[1] < gaps[2]
    assert EnvConfig().render == "near"


def test_shapes_as_fine_as_those_of_mujoco_give_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    # So the numbers of the display lists and what stands in them are MuJoCo's own.
    physics = scene()
    from dreamer.envs.drawing import renderer
    from dreamer.envs.drawing.shapes import Tessellation

    monkeypatch.setattr(renderer, "_spare_floors", lambda scene: None)
    fine = renderer.SceneRenderer(physics, 96, 0, renderer.Quality(None, Tessellation((28,) * 8, 16)))
    coarse = renderer.SceneRenderer(physics, 96, 0, renderer.Quality(None, Tessellation((4, 4), 1)))
    reference = make(physics, "reference", size=96).render()
    assert difference(fine.render(), reference)[0] <= 0.02  # the lids of a cylinder are drawn with fewer circles
    assert difference(coarse.render(), reference)[0] > 1


def test_the_model_is_left_as_it_was() -> None:
    physics = scene()
    before = repr(physics.model.vis.quality) + repr(physics.model.vis.global_)
    make(physics, "fast").render()
    assert repr(physics.model.vis.quality) + repr(physics.model.vis.global_) == before


def test_the_free_camera_is_that_of_the_reference() -> None:
    physics = scene()
    free = make(physics, "lossless", camera=-1).render()
    assert difference(free, make(physics, "reference", camera=-1).render())[0] <= NOISE
    assert difference(free, make(physics, "lossless").render())[0] > 1


def test_a_reloaded_model_is_drawn_anew() -> None:
    physics = scene()
    renderer = make(physics, "lossless")
    before = renderer.render()
    physics.reload_from_xml_string(SCENE.replace('size=".4"', 'size=".8"'))
    after = renderer.render()
    assert difference(before, after)[0] > 1
    assert difference(after, make(physics, "reference").render())[0] <= NOISE


def test_a_terrain_that_a_reset_changed_is_drawn() -> None:
    env = DMC("quadruped_escape", "vision", 1, 64, 2, "lossless")
    for seed in (0, 1):
        image = env.reset(seed).obs["image"]
        assert difference(image, make(env._env.physics, "reference", 2).render())[0] <= NOISE
    env.close()


@pytest.mark.parametrize("place", [(0, 0), (41.3, -27.8), (99, 99)])
def test_the_thinned_floor_of_quadruped_run_looks_the_same_everywhere(
    place: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = DMC("quadruped_run", "proprio", 1, 64, 2)
    env.reset(0)
    physics = env._env.physics
    from dreamer.envs.drawing import renderer

    thinned = make(physics, "fast", 2)
    thinned.render()
    assert len(thinned._planes) == 1
    monkeypatch.setattr(renderer, "large_planes", lambda physics, lists: [])
    whole = make(physics, "fast", 2)
    physics.data.qpos[:2] = place
    physics.forward()
    assert difference(thinned.render(), whole.render())[0] <= NOISE
    env.close()


def test_lines_of_a_thinned_floor_grow_apart_and_reach_its_ends() -> None:
    from dreamer.envs.drawing.shapes import FINE_CELLS, kept_lines

    for centre in (0, 3, 99, 198):
        lines = kept_lines(centre)
        assert (lines[0], lines[-1]) == (0, 198) and (np.diff(lines) > 0).all()
        near = np.arange(max(centre - FINE_CELLS, 0), min(centre + FINE_CELLS, 198) + 1)
        assert set(near) <= set(lines) and len(lines) < 50


def walk(env: DMC, seed: int, num_steps: int) -> list[np.ndarray]:
    rng, images = np.random.default_rng(seed), [env.reset(seed).obs["image"]]
    for _ in range(num_steps):
        images.append(env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)).obs["image"])
    return images


@pytest.mark.parametrize(
    "modes", [("reference", "near"), *(pytest.param(modes, marks=pytest.mark.slow) for modes in OTHER_MODES)]
)
def test_two_threads_draw_at_once_what_one_thread_draws(modes: tuple[str, str]) -> None:
    names = ("walker_walk", "cheetah_run")

    def several(name: str, mode: str) -> list[np.ndarray]:
        """One thread with two environments in turn, from their making to their end."""
        envs = [DMC(name, "vision", 2, 32, 0, mode) for _ in range(2)]
        images = [image for seed in range(2) for env in envs for image in walk(env, seed, 2)]
        for env in envs:
            env.close()
        return images

    alone = [several(*pair) for pair in zip(names, modes, strict=True)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(several, names, modes))
    for left, right in zip(alone, together, strict=True):
        assert max(difference(*pair)[0] for pair in zip(left, right, strict=True)) <= 0.05


@pytest.mark.parametrize("mode", ["reference", "near"])
def test_an_environment_may_go_from_thread_to_thread(mode: str) -> None:
    env, other = (DMC("walker_walk", "vision", 2, 32, 0, mode) for _ in range(2))
    here = walk(env, 0, 2)
    other.reset(0)
    for _ in range(2):
        with ThreadPoolExecutor(1) as pool:  # a new thread, which ends while its last picture is the newest
            there = pool.submit(walk, env, 0, 2).result()
        assert max(difference(*pair)[0] for pair in zip(here, there, strict=True)) <= 0.05
    other.reset(1)
    env.close()
    assert difference(other.reset(0).obs["image"], here[0])[0] <= 0.05
    other.close()


@pytest.mark.slow
def test_modes_take_turns_on_one_thread_without_drawing_into_each_other() -> None:
    names = ("walker_walk", "cartpole_balance", "hopper_stand")
    envs = [(name, mode, DMC(name, "vision", 1, 32, 0, mode)) for mode in ("reference", "near") for name in names]
    first = {(name, mode): env.reset(0).obs["image"] for name, mode, env in envs}
    for name, mode, env in reversed(envs):
        assert difference(env.reset(0).obs["image"], first[name, mode])[0] <= 0.05
        plain = env._env.physics.render(32, 32, camera_id=0)  # as somebody would who knows nothing of the above
        assert difference(plain, first[name, "reference"])[0] <= 0.05
        assert difference(first[name, "near"], first[name, "reference"])[0] <= 0.3
    for index, (_, _, env) in enumerate(envs):
        env.close()
        for later, other_mode, other in envs[index + 1 :]:
            assert difference(other.reset(0).obs["image"], first[later, other_mode])[0] <= 0.05


def test_an_environment_that_is_collected_while_another_is_drawn_leaves_its_context_current() -> None:
    from dreamer.envs.drawing.gl_context import current

    env = DMC("walker_walk", "vision", 1, 32, 0, "near")
    image = env.reset(0).obs["image"]
    forgotten = make(scene(), "near")
    forgotten.render()
    renderer: Any = env._renderers[32]
    with current(renderer._context):
        del forgotten
        gc.collect()
        import mujoco

        mujoco.mjr_render(renderer._rectangle, renderer._scene, renderer._drawing)
        mujoco.mjr_readPixels(renderer._pixels, None, renderer._rectangle, renderer._drawing)
    assert difference(renderer._pixels[::-1], image)[0] <= 0.05
    env.close()


ACROSS = """
import numpy as np
from dreamer.envs.suites.dmc import DMC
def images(mode):
    envs = [DMC("walker_walk", "vision", 2, 64, 0, mode) for _ in range(2)]
    shots = [env.reset(0).obs["image"] for env in envs]
    envs[0].close()
    kept.append(envs[1])
    return np.array(shots).astype(int)
kept = []
reference = images("reference")
for mode in ("lossless", "near", "near2", "fast"):
    print(np.abs(images(mode) - reference).mean())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="egl and osmesa are for Linux")
@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_a_backend_draws_all_modes_and_says_nothing_at_exit(backend: str, can_draw: Callable[[str], bool]) -> None:
    if not can_draw(backend):
        pytest.skip(f"MUJOCO_GL={backend} does not draw here")
    env = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    result = subprocess.run(
        [sys.executable, "-c", ACROSS], env={**env, "MUJOCO_GL": backend}, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    for mode, mean in zip(MODES[1:], result.stdout.split(), strict=True):
        assert float(mean) <= max(BOUNDS[mode][0], NOISE), mode


@pytest.fixture(scope="module")
def can_draw() -> Iterator[Callable[[str], bool]]:
    from dreamer.envs.drawing.backend import _try_backend

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYOPENGL_PLATFORM", raising=False)  # which this process set for the backend it uses itself
        yield lambda backend: _try_backend(backend, 60.0) is None
