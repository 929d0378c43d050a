"""What is exported is compared with the agent step by step, and what differs is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny import build_agent

from dreamer.agent import Agent
from dreamer.config.schema import Config
from dreamer.envs.make import make_env
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.errors import RunStopped
from dreamer.export.check import Comparison, compare
from dreamer.export.formats import Arrays, Runner
from dreamer.export.step import PolicyStep, units_of

Parts = tuple[Agent, PolicyStep, EpisodeJournal]


@pytest.fixture(scope="module", params=["continuous", "multi_discrete"])
def parts(request, tiny: Callable[..., Config]) -> Parts:
    config = tiny("env=dummy_counter", "env.kwargs.length=7", f"env.kwargs.actions={request.param}").env
    env = make_env(config)
    agent = build_agent(env.obs_space, env.action_space)
    return agent, PolicyStep(agent, units_of(env.env), "sample"), env


def eager(step: PolicyStep, spoil: Callable[[np.ndarray, np.ndarray], None] = lambda action, state: None) -> Runner:
    """The step itself, in place of a file of it, with something done to what it returns."""

    def run(obs: Arrays, state: np.ndarray, noise: Arrays) -> tuple[np.ndarray, np.ndarray]:
        tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in obs.items()}
        arguments = [torch.from_numpy(value) for value in (state, *noise.values())]
        with torch.inference_mode():
            action, after = (value.numpy().copy() for value in step(tensors, *arguments))
        spoil(action, after)
        return action, after

    return run


def check(parts: Parts, spoil: Callable[[np.ndarray, np.ndarray], None], steps: int = 20) -> Comparison:
    agent, step, env = parts
    return compare(agent, step, eager(step, spoil), env, steps, seed=0)


def test_the_step_itself_agrees_over_several_episodes(parts):
    found = check(parts, lambda action, state: None)
    assert (found.steps, found.ties) == (20, 0) and max(found.action, found.state) < 1e-6
    assert found.original_seconds > 0 and found.exported_seconds > 0


@pytest.mark.parametrize("place", [0, 1, -1], ids=["has_begun", "deter", "action"])
def test_a_state_that_is_off_is_refused_where_it_is_first_seen(parts, place):
    def spoil(action: np.ndarray, state: np.ndarray) -> None:
        state[place] += 1e-3

    with pytest.raises(RunStopped, match=r"In step 0 of 20 .*the state by 1\.0e-03\), so it was not kept"):
        check(parts, spoil)


def test_a_state_that_is_no_number_is_refused(parts):
    with pytest.raises(RunStopped, match="In step 0 of 20"):
        check(parts, lambda action, state: state.__setitem__(3, np.nan))


def test_other_actions_are_refused(parts):
    def spoil(action: np.ndarray, state: np.ndarray) -> None:
        action[0] = 1 - action[0]

    with pytest.raises(RunStopped, match=r"In step . of 20 the exported step does not do what the agent does"):
        check(parts, spoil)


def test_one_draw_at_a_border_is_left_out_and_many_are_refused(parts):
    place = parts[1].parts["deter"] + 1
    calls = 0

    def once(action: np.ndarray, state: np.ndarray) -> None:
        nonlocal calls
        calls += 1
        state[place] += calls == 5

    assert check(parts, once).ties == 1

    def often(action: np.ndarray, state: np.ndarray) -> None:
        state[place] += 1

    with pytest.raises(RunStopped, match=r"In step 1 of 20 .*\(2 draws of other classes\)"):
        check(parts, often)


def test_a_result_of_another_shape_is_refused(parts):
    agent, step, env = parts
    run = eager(step)
    with pytest.raises(RunStopped, match=r"The exported step returns .*, so it was not kept"):
        compare(agent, step, lambda *of: (run(*of)[0], run(*of)[1][1:]), env, 5, seed=0)
