"""dreamer.load: from a file to an agent that acts, with nothing of training behind it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import ACTIONS, BOTH, build_agent, values

import dreamer
from dreamer.agent import Agent
from dreamer.saved.policy_file import SPACES, read_policy, spaces_of, spaces_to_dict, write_policy

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "results" / "walker_walk_state" / "policy.safetensors"
ACT = """
import sys, time
sys.path.insert(0, {site!r})
began = time.perf_counter()
import dreamer
assert time.perf_counter() - began < 0.5 and "torch" not in sys.modules
assert dreamer.__file__.startswith({site!r}), dreamer.__file__
import numpy as np
agent = dreamer.load({path!r})
obs = {{key: np.zeros(space.shape, space.dtype) for key, space in agent.obs_space.items()}}
action = agent.session(num_envs=1, seed=0).act(obs, is_first=True)
assert action.shape == (6,) and np.isfinite(action).all()
unwanted = {{"lightning", "dm_control", "mujoco", "gymnasium", "dreamer.data", "dreamer.training"}}
assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
print(dreamer.__version__)
"""


@pytest.mark.slow
def test_a_wheel_away_from_the_checkout_can_load_and_act(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(ROOT)]
    subprocess.run([*build, "--wheel-dir", str(tmp_path)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("dreamer_torch-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = ACT.format(site=str(tmp_path / "site"), path=str(SHIPPED))
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == wheel.name.split("-")[1]


def random_obs(agent: Agent, num_envs: int) -> dict[str, np.ndarray]:
    return {key: values(space, num_envs).numpy() for key, space in agent.obs_space.items()}


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("mode", [False, True])
def test_a_session_draws_what_the_agent_draws_and_remembers(kind, mode):
    agent = build_agent(BOTH, ACTIONS[kind])
    session, draw = agent.session(2, seed=5, mode=mode), torch.Generator().manual_seed(5)
    latent, action = agent.initial(2), np.zeros((2, *agent.action_space.shape), agent.action_space.dtype)
    for is_first in ([True, True], [False, False], [False, True]):
        obs = random_obs(agent, 2)
        action, latent = agent.act(obs, latent, action, np.array(is_first), draw, mode)
        np.testing.assert_array_equal(session.act(obs, is_first), action)
        assert action.dtype == agent.action_space.dtype


def test_one_environment_needs_no_first_axis():
    agent = build_agent()
    one, many = agent.session(seed=1), agent.session(seed=1)
    for is_first in (True, False):
        obs = random_obs(agent, 1)
        action = one.act({key: value[0] for key, value in obs.items()}, is_first)
        np.testing.assert_array_equal(action, many.act(obs, [is_first])[0])


def test_the_likeliest_actions_do_not_depend_on_what_is_drawn_for_them():
    agent = build_agent(action_space=ACTIONS["discrete"])
    policy = agent.actor_critic.actor(torch.randn(50, 39))
    best = policy.log_prob(policy.mode())
    assert all((policy.log_prob(policy.sample()) <= best).all() for _ in range(20))


def test_what_does_not_fit_is_named():
    agent = build_agent()
    obs = random_obs(agent, 2)
    with pytest.raises(ValueError, match="obs has no 'pose'; this agent sees image, height, pose, dials"):
        agent.session(2).act({key: value for key, value in obs.items() if key != "pose"}, [True, True])
    with pytest.raises(ValueError, match=r"obs\['image'\] has the shape \(2, 8, 8, 3\) .* this session of 3 takes"):
        agent.session(3).act(obs, [True] * 3)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("image", np.full((1, 8, 8, 3), 0.5), r"obs\['image'\] is float64; this agent sees uint8"),
        ("dials", np.full((1, 2), 2**40), r"obs\['dials'\] holds a choice that is none of \(4, 2\)"),
        ("pose", np.full((1, 2, 3), np.nan), r"obs\['pose'\] holds values that are not finite"),
    ],
)
def test_nothing_is_cast_in_silence(key, value, told):
    agent = build_agent()
    with pytest.raises(ValueError, match=told):
        agent.session().act({**random_obs(agent, 1), key: value}, [True])


def test_a_caller_may_change_the_action_it_got():
    agent = build_agent()
    one, other, obs = agent.session(seed=3), agent.session(seed=3), random_obs(agent, 1)
    first = one.act(obs, [True])
    first *= 0
    other.act(obs, [True])
    np.testing.assert_array_equal(one.act(obs, [False]), other.act(obs, [False]))


def test_spaces_are_saved_beside_the_weights_and_others_are_refused(tmp_path):
    state = read_policy(SHIPPED)
    obs_space, action_space = spaces_of(state["dreamer"], SHIPPED)
    assert state["dreamer"][SPACES] == spaces_to_dict(obs_space, action_space)
    for spaces in ([], {"obs": {}}, {"obs": {"x": {"shape": "no", "dtype": "uint8", "classes": []}}, "action": {}}):
        with pytest.raises(ValueError, match="spaces are none of an agent"):
            write_policy({**state, "dreamer": {**state["dreamer"], SPACES: spaces}}, tmp_path / "p.safetensors")


def test_an_agent_from_before_spaces_were_saved_takes_those_of_its_environment(tmp_path):
    state = read_policy(SHIPPED)
    spaces = state["dreamer"].pop(SPACES)
    write_policy(state, tmp_path / "old.safetensors")
    agent = dreamer.load(tmp_path / "old.safetensors")
    assert spaces_to_dict(agent.obs_space, agent.action_space) == spaces


def test_layers_of_older_agents_have_their_present_names(tmp_path):
    state = read_policy(SHIPPED)
    root = "agent.world_model.rssm.posterior_net."
    old = {"0.0.linear": "first", "0.0.norm": "norm", "1": "out"}
    weights = dict(state["state_dict"])
    assert any(name.startswith(f"{root}first.") for name in weights) or any(f"{root}0.0" in name for name in weights)
    for new, name in old.items():
        for key in [key for key in weights if key.startswith(f"{root}{new}.")]:
            weights[key.replace(f"{root}{new}.", f"{root}{name}.")] = weights.pop(key)
    weights["agent.actor_critic.return_range.weight"] = torch.ones(())
    write_policy({**state, "state_dict": weights}, tmp_path / "old.safetensors")
    agent, shipped = dreamer.load(tmp_path / "old.safetensors"), dreamer.load(SHIPPED)
    assert all(torch.equal(value, shipped.state_dict()[name]) for name, value in agent.state_dict().items())
