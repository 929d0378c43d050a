"""Environments of gymnasium's registry as ours: spaces, flags, repeats, seeds, pictures, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import robots  # registers Blind-v0
from gymnasium import spaces

from dreamer.config.schema import EnvConfig
from dreamer.envs.drawing import backend
from dreamer.envs.make import make_env
from dreamer.envs.spec import Replayable
from dreamer.envs.suites.gymnasium import Gymnasium
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import Space, TimeStep


def config(id: str, **changes: Any) -> EnvConfig:
    return EnvConfig(**{"suite": "gymnasium", "name": id, "id": id, "obs": "auto", "action_repeat": 1, **changes})


def arm(obs: str = "auto", action_repeat: int = 1, size: int | None = None, **kwargs: Any) -> Gymnasium:
    return Gymnasium(robots.Arm(**kwargs), "env.id=Arm-v0", obs, action_repeat, size)


def actions(env: Any, num: int) -> np.ndarray:
    space, random = env.action_space, np.random.default_rng(0)
    if space.is_discrete:
        return random.integers(0, space.classes, (num, *space.shape)).astype(np.int32)
    return random.uniform(-1, 1, (num, *space.shape)).astype(np.float32)


def episode(env: Any, seed: int, num: int) -> list[TimeStep]:
    return [env.reset(seed), *(env.step(action) for action in actions(env, num))]


@pytest.mark.parametrize(
    ("id", "obs_space", "action_space"),
    [
        ("CartPole-v1", {"state": Space((4,), "float32")}, Space((1,), "int32", (2,))),
        ("Pendulum-v1", {"state": Space((3,), "float32")}, Space((1,), "float32")),
        ("FrozenLake-v1", {"state": Space((1,), "int32", (16,))}, Space((1,), "int32", (4,))),
    ],
)
def test_registered_environments_keep_their_spaces_and_seeds(
    id: str, obs_space: dict[str, Space], action_space: Space
) -> None:
    env, other = make_env(config(id)), make_env(config(id))
    assert (env.obs_space, env.action_space) == (obs_space, action_space)
    rows, again = episode(env, 2**62 + 5, 3), episode(other, 2**62 + 5, 3)
    different = episode(env, 6, 3)
    for row, same in zip(rows, again, strict=True):
        assert row[1:] == same[1:]
        for key, space in obs_space.items():
            assert row.obs[key].shape == space.shape and str(row.obs[key].dtype) == space.dtype
            np.testing.assert_array_equal(row.obs[key], same.obs[key])
    if id != "FrozenLake-v1":  # which begins in the same place
        assert not np.array_equal(rows[0].obs["state"], different[0].obs["state"])


def test_rows_are_those_of_the_environment() -> None:
    env = arm()
    rows = episode(env, 3, 4)
    assert [row.reward for row in rows] == [0, 1, 2, 3, 4]
    assert [row.is_first for row in rows] == [True, False, False, False, False]
    for time, row in enumerate(rows):
        assert row.obs["time"] == time and (row.obs["cameras.left"] == time).all()
        assert row.obs.keys() == env.obs_space.keys()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_only_termination_is_terminal(is_terminal: bool) -> None:
    rows = episode(arm(length=5, is_terminal=is_terminal), 0, 5)
    assert [row.is_last for row in rows] == [False] * 5 + [True]
    assert [row.is_terminal for row in rows] == [False] * 5 + [is_terminal]


def test_the_time_limit_of_the_registry_is_not_terminal() -> None:
    rows = episode(make_env(config("Blind-v0")), 0, 10)
    assert rows[-1].is_last and not rows[-1].is_terminal and not rows[-2].is_last


def test_repeats_sum_rewards_and_stop_with_the_episode() -> None:
    env = arm(action_repeat=4, length=6)
    rows = episode(env, 0, 2)
    assert env.env_steps_per_action == 4
    assert [row.reward for row in rows] == [0, 1 + 2 + 3 + 4, 5 + 6]
    assert rows[1].obs["time"] == 4 and rows[2].is_last
    with pytest.raises(AssertionError, match="reset"):
        env.step(actions(env, 1)[0])


@pytest.mark.parametrize(
    ("obs", "keys"),
    [
        ("auto", {"cameras.left", "cameras.right", "pose", "time"}),
        ("both", {"cameras.left", "cameras.right", "pose", "time"}),
        ("vision", {"cameras.left", "cameras.right"}),
        ("proprio", {"pose", "time"}),
    ],
)
def test_obs_chooses_among_what_the_environment_gives(obs: str, keys: set[str]) -> None:
    env = arm(obs)
    assert env.obs_space.keys() == keys == env.reset(0).obs.keys()


@pytest.mark.parametrize(("size", "expected"), [(None, 80), (64, 64)])
def test_pictures_of_two_sizes_are_resized_to_one_and_a_line_says_so_once(
    size: int | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        env = Gymnasium(robots.Arm(), f"env.id=Resized{size}-v0", "auto", 1, size)
    assert env.obs_space["cameras.left"] == Space((expected, expected, 3), "uint8")
    assert env.obs_space["cameras.right"] == Space((expected, expected, 1), "uint8")
    assert env.reset(0).obs["cameras.right"].shape == (expected, expected, 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"env.id=Resized{size}-v0: cameras.left of 84 x 84 pixels is resized to {expected}")
    assert len(lines) == (2 if size is None else 1), "the other camera is 64 x 64 already"


@pytest.mark.parametrize("obs", ["vision", "both"])
def test_an_environment_without_pictures_is_drawn(obs: str) -> None:
    env = make_env(config("Blind-v0", obs=obs, size=32))
    assert env.obs_space["image"] == Space((32, 32, 3), "uint8")
    assert ("pose" in env.obs_space) == (obs == "both")
    row = episode(env, 0, 3)[-1]
    assert (row.obs["image"] == 30).all()
    assert make_env(config("Blind-v0", obs=obs)).obs_space["image"].shape == (64, 64, 3)


def test_pygame_draws_where_it_is_installed() -> None:
    pytest.importorskip("pygame")
    env = make_env(config("CartPole-v1", obs="vision", size=64))
    row = env.reset(0)
    frame = env.frame()
    assert row.obs["image"].std() > 10
    assert frame is not None and frame.shape == (171, 256, 3), "for people: larger, and with its proportions"


def test_without_pygame_an_environment_has_no_frame_and_no_vision(monkeypatch: pytest.MonkeyPatch) -> None:
    def render(self: Any) -> None:
        raise gym.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr(robots.Blind, "render", render)
    env = make_env(config("Blind-v0"))
    env.reset(0)
    assert env.frame() is None
    with pytest.raises(
        ValueError,
        match=r'env.obs=both: env.id=Blind-v0 cannot be drawn: pygame is .*; pip install .* -e "\.\[gymnasium\]"',
    ):
        make_env(config("Blind-v0", obs="both"))


def no_opengl() -> None:
    raise AttributeError("'NoneType' object has no attribute 'glGetError'")


@pytest.mark.parametrize(
    ("render", "why"),
    [
        (lambda: None, "ValueError: render returns NoneType, not a picture [h w 3]"),
        (lambda: np.zeros((8, 8, 5), np.uint8), "ValueError: render returns uint8 [8, 8, 5], not a picture [h w 3]"),
        (no_opengl, "AttributeError: 'NoneType' object has no attribute 'glGetError'"),
    ],
    ids=["nothing", "no picture", "no OpenGL"],
)
def test_what_cannot_be_drawn_is_trained_from_state_and_a_line_says_so_once(
    render: Any,
    why: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"env.class={request.node.callspec.id}"  # of its own: what was said of another is not said again
    monkeypatch.setattr(robots.Arm, "render", lambda self: render())
    for robot, shape in ((robots.Blind, None), (robots.Arm, (80, 160, 3))):
        env = Gymnasium(robot(render_mode="rgb_array"), name, "auto", 1, None)
        env.reset(0)
        for _ in range(2):
            assert getattr(env.frame(), "shape", None) == shape, "of both cameras, where it has them"
    said = [line for line in capsys.readouterr().out.splitlines() if "drawn" in line]
    assert said == [f"{name}: videos show what is observed, or nothing, for it cannot be drawn: {why}"]
    with pytest.raises(ValueError) as caught:
        Gymnasium(robots.Blind(render_mode="rgb_array"), name, "both", 1, None)
    assert str(caught.value) == f"env.obs=both: {name} cannot be drawn: {why}"


def test_a_transparent_drawing_is_shown_in_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robots.Arm, "render", lambda self: np.full((8, 8, 4), [10, 20, 30, 0], np.uint8))
    env = Gymnasium(robots.Blind(render_mode="rgb_array"), "env.id=Blind-v0", "both", 1, None)
    row, frame = env.reset(0), env.frame()
    for picture in (row.obs["image"], frame):
        assert picture is not None and picture.shape[2] == 3 and (picture == [10, 20, 30]).all()


def test_people_see_what_is_observed_where_nothing_is_drawn() -> None:
    env = arm(render_mode=None)
    env.reset(0)
    row = env.step(np.zeros(3, np.int32))
    frame = env.frame()
    assert frame is not None and frame.shape == (80, 160, 3) and (frame[:, :80] == 1).all()
    np.testing.assert_array_equal(frame[:, 80:], row.obs["cameras.right"].repeat(3, axis=2))
    blind = Gymnasium(robots.Blind(), "env.id=Blind-v0", "auto", 1, None)
    blind.reset(0)
    assert blind.frame() is None


def test_advance_is_step_without_the_observation_and_the_digest_tells_episodes_apart() -> None:
    stepped, advanced = arm(), arm()
    assert isinstance(stepped, Replayable)
    stepped.reset(7)
    advanced.reset(7)
    for action in actions(stepped, 5):
        row = advanced.advance(action)
        assert row.obs == {} and row[1:] == stepped.step(action)[1:]
        np.testing.assert_array_equal(stepped.simulator_state(), advanced.simulator_state())
    advanced.reset(8)
    for action in actions(stepped, 5):
        advanced.step(action)
    assert not np.array_equal(stepped.simulator_state(), advanced.simulator_state())


def test_an_episode_that_rewards_alike_but_looks_different_is_not_taken_for_the_same() -> None:
    journal = EpisodeJournal(arm())
    episode(journal, 7, 4)
    state = journal.state_dict()
    assert EpisodeJournal(arm()).load_state_dict(state).is_exact
    assert not EpisodeJournal(arm()).load_state_dict({**state, "seed": 8}).is_exact


def test_arguments_reach_the_constructor() -> None:
    env = make_env(config("CartPole-v1", kwargs={"sutton_barto_reward": True}))
    env.reset(0)
    assert env.step(np.zeros(1, np.int32)).reward == 0


def test_what_the_registry_gives_need_not_be_given() -> None:
    robot: Any = make_env(config("Wired-v1"))
    assert robot.env.raw.unwrapped.port == 3


def test_the_time_limit_may_be_an_argument_though_no_constructor_takes_it() -> None:
    rows = episode(make_env(config("Blind-v0", kwargs={"max_episode_steps": 3})), 0, 3)
    assert [row.is_last for row in rows] == [False, False, False, True] and not rows[-1].is_terminal


def test_a_module_of_the_user_is_imported_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registers_it.py").write_text(
        "import gymnasium, robots\ngymnasium.register('Own/Arm-v3', robots.Arm, max_episode_steps=4)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    env = make_env(config("Own/Arm-v3", import_="registers_it"))
    assert episode(env, 0, 4)[-1].is_last


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere SDL may have no driver of this name")
def test_pictures_are_not_black_for_who_draws_nothing_on_a_dummy_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    is_dummy = lambda: os.environ.get("SDL_VIDEODRIVER") == "dummy"  # noqa: E731
    monkeypatch.setattr(robots.Board, "render", lambda _: np.full((150, 600, 3), 0 if is_dummy() else 100, np.uint8))
    env = make_env(config("Board-v0", leave_out=["mission"], obs="vision"))
    assert (env.reset(0).obs["image"] == 100).all()


def test_an_id_may_name_the_module_that_adds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adds_it.py").write_text(
        "import gymnasium, robots\ngymnasium.register('Own/Arm-v4', robots.Arm, max_episode_steps=4)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    env = make_env(config("adds_it:Own/Arm-v4", kwargs={"length": 3}))
    assert episode(env, 0, 3)[-1].is_last


def test_a_board_with_a_mission_in_words_is_numbers_or_a_drawing() -> None:
    env = make_env(config("Board-v0", leave_out=["mission"]))
    assert env.obs_space == {"image": Space((7, 7, 3), "float32"), "direction": Space((1,), "int32", (4,))}
    assert env.action_space == Space((1,), "int32", (7,))
    row = episode(env, 3, 2)[-1]
    assert row.obs["image"].max() == 10 and 0 <= row.obs["direction"][0] < 4
    drawn = make_env(config("Board-v0", leave_out=["mission"], obs="vision"))
    assert drawn.obs_space == {"image": Space((64, 64, 3), "uint8")}
    assert (drawn.reset(0).obs["image"] == 200).all()
    both = make_env(config("Board-v0", leave_out=["mission", "image"], obs="both"))
    assert set(both.obs_space) == {"direction", "image"}


def test_an_episode_is_told_from_another_without_what_is_left_out() -> None:
    env = make_env(config("Board-v0", leave_out=["mission"])).env
    assert isinstance(env, Replayable)
    digests = [env.reset(seed) and env.simulator_state().tobytes() for seed in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]


def test_a_simulator_that_is_not_installed_is_named_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of gymnasium do: the module itself raises, when it is imported."""
    lines = "from gymnasium.error import DependencyNotInstalled\nraise DependencyNotInstalled('Box3D is missing')\n"
    (tmp_path / "boxed.py").write_text(lines, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(gym.registry, "Boxed-v0", gym.envs.registration.EnvSpec("Boxed-v0", "boxed:Boxed"))
    with pytest.raises(ValueError) as caught:
        make_env(config("Boxed-v0"))
    assert str(caught.value) == "env.id=Boxed-v0: Box3D is missing"


def test_an_environment_with_mujoco_draws_with_what_draws_here(renderer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    env = make_env(config("InvertedPendulum-v5"))
    env.reset(0)
    frame = env.frame()
    assert frame is not None and frame.std() > 10
    assert os.environ["MUJOCO_GL"] == renderer
    env.close()


@pytest.mark.parametrize(
    ("method", "result", "told"),
    [
        ("reset", np.zeros(3), "reset returns a ndarray, not (observation, info)."),
        ("reset", (1, 2), "reset returns a tuple of 2, not (observation, info)."),
        (
            "step",
            (1, 2, True, {}),
            "step returns a tuple of 4, not (observation, reward, terminated, truncated, info).",
        ),
    ],
)
def test_what_is_no_row_is_refused_by_name(
    method: str, result: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = arm()
    if method == "step":
        env.reset(0)
    monkeypatch.setattr(robots.Arm, method, lambda self, action=None, seed=None: result)
    with pytest.raises(ValueError) as caught:
        env.step(np.zeros(3, np.int32)) if method == "step" else env.reset(0)
    assert str(caught.value) == f"env.id=Arm-v0: {told}"


def test_a_float_picture_is_not_made_black(monkeypatch: pytest.MonkeyPatch) -> None:
    def observe(self: Any) -> dict[str, Any]:
        return {"cameras": {"left": np.ones((84, 84, 3)), "right": np.zeros((1, 64, 64), np.uint8)}}

    monkeypatch.setattr(robots.Arm, "observe", observe)
    with pytest.raises(ValueError, match=r"env.id=Arm-v0: observation cameras.left is float64, but its space promises"):
        arm(obs="vision").reset(0)


def test_a_picture_that_is_none_for_the_network_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    class Float(robots.Blind):
        observation_space = gym.spaces.Box(0, 1, (64, 64, 3))

    Gymnasium(Float(), "env.class=Float", "auto", 1, None)
    assert "state has the shape of a picture, but is no uint8, so the network gets 12,288" in capsys.readouterr().out


def test_where_nothing_draws_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(backend, "_probe", backend.Probe(None, ("egl (no driver)",), "egl"))
    env = Gymnasium(robots.Blind(render_mode="rgb_array"), "env.id=Dark-v0", "auto", 1, None)
    env.reset(0)
    assert env.frame() is None
    backend.choose_backend_for_gymnasium()
    assert os.environ["MUJOCO_GL"] == "egl", "gymnasium refuses `off`"
    assert "tried egl (no driver); unset MUJOCO_GL=egl, or install libegl1 and" in capsys.readouterr().out


def test_an_action_that_is_not_finite_is_refused() -> None:
    env = make_env(config("Pendulum-v1"))
    env.reset(0)
    with pytest.raises(ValueError, match=r"env.id=Pendulum-v1 was given an action that is not finite"):
        env.step(np.array([np.nan], np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "CartPole-v9"}, "env.id=CartPole-v9 is not known to gymnasium"),
        (
            {"id": "CartPol-v1"},
            f"env.id=CartPol-v1 is not known to gymnasium {gym.__version__}; did you mean CartPole-v1",
        ),
        (
            {"id": "Qqqq-v0"},
            f"env.id=Qqqq-v0 is not known to gymnasium {gym.__version__}. If a package adds it, name that too: "
            "env.id=its_package:Qqqq-v0, or env.import=its_package.",
        ),
        ({"id": "robots:Qqqq-v0"}, "env.id=robots:Qqqq-v0 is not known to gymnasium"),
        ({"id": "not_there:Arm-v0"}, "env.id=not_there:Arm-v0 cannot be imported from "),
        ({"id": "Board-v0"}, "env.id=Board-v0: observation mission is <robots.Words object at "),
        (
            {"id": "Board-v0", "kwargs": {"size": 2}},
            "env.id=Board-v0 cannot be made: no room in 2 (HYDRA_FULL_ERROR=1 shows where)",
        ),
        ({"id": "Nobody/Knows-v0"}, "env.id=Nobody/Knows-v0 is not known to gymnasium"),
        ({"import_": "not_there"}, "env.import=not_there cannot be imported from "),
        ({"id": "Wired-v0"}, "env.kwargs.port has no value; give env.kwargs.port=... on the command line"),
        ({"kwargs": {"gravitas": 1}}, "env.kwargs.gravitas is not an argument of env.id=CartPole-v1; some are"),
        (
            {"kwargs": {"max_episode_step": 3}},
            "env.kwargs.max_episode_step is not an argument of env.id=CartPole-v1; did you mean max_episode_steps?",
        ),
        (
            {"obs": "proprio", "id": "Pictures-v0"},
            "env.obs=proprio: env.id=Pictures-v0 has only image; use env.obs=auto",
        ),
        ({"obs": "both", "id": "Pictures-v0"}, "env.obs=both: env.id=Pictures-v0 has only image; use env.obs=auto"),
        ({"obs": "vision", "id": "Undrawn-v0"}, "env.obs=vision: env.id=Undrawn-v0 has no picture, and no render_mode"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_the_user_typed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_env(config(**{"id": "CartPole-v1", **changes}))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "obs", "expected"),
    [
        (spaces.Dict({}), "auto", r"env\.id=X has nothing to observe: its observation_space is Dict\(\)\.$"),
        (spaces.Box(-1, 1, (0,)), "proprio", r"env\.id=X has nothing to observe"),
        (
            spaces.Dict({"image": spaces.Box(-1, 1, (2,))}),
            "both",
            r"env\.obs=both: env\.id=X would be drawn as image, which is one of its numbers; leave these out "
            r"\(env\.leave_out=\[image\]\), or rename them\.$",
        ),
    ],
)
def test_what_leaves_nothing_to_learn_from_is_refused(
    space: spaces.Space, obs: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robots.Blind, "observation_space", space)
    with pytest.raises(ValueError, match=rf"^{expected}"):
        Gymnasium(robots.Blind(render_mode="rgb_array"), "env.id=X", obs, 1, None)


def test_observations_without_an_entry_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    space = spaces.Dict({"foot": spaces.Box(-1, 1, (0, 3)), "pose": spaces.Box(-1, 1, (2,))})
    monkeypatch.setattr(robots.Blind, "observation_space", space)
    assert list(Gymnasium(robots.Blind(), "env.id=X", "auto", 1, None).obs_space) == ["pose"]
