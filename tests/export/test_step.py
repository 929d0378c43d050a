"""One step as a function of arrays: it does what the agent does, over resets, with every kind of space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import ACTIONS, BOTH, CONTINUOUS, OBSERVATIONS, build_agent, values

from dreamer.agent import Agent
from dreamer.envs.spec import ActionChoices, ActionRange
from dreamer.export.step import Mode, PolicyStep, plain_units


def noise_of(agent: Agent, step: PolicyStep, generator: torch.Generator) -> list[torch.Tensor]:
    return [value[0] for value in agent.draw_noise(1, generator)][: len(step.noise_shapes)]


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("observed", ["image", "both"])
@pytest.mark.parametrize("mode", ["likeliest", "sample"])
def test_it_does_what_the_agent_does_and_zeros_begin_an_episode(observed, actions, mode: Mode):
    agent = build_agent(OBSERVATIONS[observed], ACTIONS[actions], standardize_vectors=True)
    step = PolicyStep(agent, plain_units(agent.action_space), mode)
    generator, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    latent, action = agent.initial(1), np.zeros((1, *agent.action_space.shape), agent.action_space.dtype)
    state = step.start()
    for is_first in (True, False, False, True, False):
        obs = {key: values(space, 1)[0] for key, space in agent.obs_space.items()}
        state = step.start() if is_first else state
        ours, state = step(obs, state, *noise_of(agent, step, generator))
        if mode == "sample":
            rows = {key: value[None].numpy() for key, value in obs.items()}
            action, latent = agent.act(rows, latent, action, np.array([is_first]), other)
        else:
            rows = {key: value[None, None] for key, value in obs.items()}
            parts = [torch.from_numpy(latent[key]) for key in ("deter", "stoch")]
            first = torch.tensor([is_first])
            action, deter, stoch = agent.act_step(rows, *parts, torch.from_numpy(action), first, (None, None))
            action, latent = action.detach().numpy(), {"deter": deter.numpy(), "stoch": stoch.numpy()}
        expected = action[0] if agent.action_space.is_discrete else np.clip(action[0], -1, 1)
        np.testing.assert_array_equal(ours.numpy(), expected)
        assert str(ours.numpy().dtype) == agent.action_space.dtype
        packed = np.concatenate([[1], latent["deter"][0], latent["stoch"][0], action[0]])
        np.testing.assert_array_equal(state.numpy(), packed.astype(np.float32))


def test_the_likeliest_step_draws_nothing_and_takes_the_largest_logits():
    agent = build_agent()
    step = PolicyStep(agent, plain_units(CONTINUOUS), "likeliest")
    obs, state = {key: values(space, 1)[0] for key, space in BOTH.items()}, step.start()
    before = torch.get_rng_state()
    action, after = step(obs, state)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, other) for one, other in zip(step(obs, state), (action, after), strict=True))
    rows = {key: value[None, None] for key, value in obs.items()}
    latent = agent.world_model.context(torch.zeros(1, 24), torch.zeros(1, 3, dtype=torch.int64))
    embed = agent.world_model.embed(rows)[:, 0]
    _, logits = agent.world_model.rssm.filter_step(latent, embed, torch.zeros(1, 2), torch.tensor([True]))
    assert torch.equal(after[25:28], logits.argmax(-1)[0].float())


def test_actions_leave_in_the_units_of_the_environment_and_the_state_keeps_the_agents_own():
    units = ActionRange(
        *(np.array(bound) for bound in ([-2.0, 0.0], [2.0, 10.0], [-2.0, 0.0], [2.0, 8.0])), np.array([False, True])
    )
    step = PolicyStep(build_agent(), units, "sample")
    obs = {key: values(space, 1)[0] for key, space in BOTH.items()}
    action, state = step(obs, step.start(), torch.rand(3), torch.tensor([-9.0, 9.0]))
    assert action.tolist() == [-2, 8], "clipped to [-1, 1], then scaled, rounded and cut off"
    assert state[-2] < -1 < 1 < state[-1]
    assert step.translate(torch.tensor([0.25, -0.28])).tolist() == [0.5, 4]  # 3.6 rounded


def test_choices_begin_where_the_environment_begins_to_count():
    agent = build_agent(action_space=ACTIONS["multi_discrete"])
    plain = PolicyStep(agent, plain_units(agent.action_space), "likeliest")
    moved = PolicyStep(agent, ActionChoices(np.array([5, -2, 0])), "likeliest")
    obs = {key: values(space, 1)[0] for key, space in BOTH.items()}
    (one, state), (other, same) = plain(obs, plain.start()), moved(obs, moved.start())
    assert (other - one).tolist() == [5, -2, 0] and torch.equal(state, same)


def test_nothing_that_does_not_act_goes_along_and_the_agent_stays_whole():
    agent = build_agent()
    names = set(agent.state_dict())
    step = PolicyStep(agent, plain_units(CONTINUOUS), "likeliest")
    kept = {name.removeprefix("agent.") for name in step.state_dict() if name.startswith("agent.")}
    others = ("world_model.decoder", "world_model.reward", "world_model.cont", "world_model.rssm.prior_net")
    left_out = (*others, "actor_critic.critic", "actor_critic.slow_critic", "actor_critic.return_range")
    assert kept == {name for name in names if not name.startswith(left_out)}
    assert set(agent.state_dict()) == names
    assert step.agent.actor_critic.actor is agent.actor_critic.actor, "no copy is made"
