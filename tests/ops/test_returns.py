"""Lambda-returns and survival weights, worked by hand."""

import torch

from dreamer.ops.returns import lambda_return, survival

# Row 0 of each is never read: a return at t is about what follows.
REWARD = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
CONT = torch.tensor([[9.0, 0.5, 1.0, 0.8]])
VALUE = torch.tensor([[9.0, 10.0, 20.0, 30.0]])


def test_lambda_return_by_hand() -> None:
    # ret2 = 3 + 0.8 * 30 = 27;  ret1 = 2 + 1 (0.5 * 20 + 0.5 * 27) = 25.5;  ret0 = 1 + 0.5 (0.5 * 10 + 0.5 * 25.5)
    ret = lambda_return(REWARD, CONT, VALUE, lambda_=0.5)
    torch.testing.assert_close(ret, torch.tensor([[9.875, 25.5, 27.0]]))


def test_discount_multiplies_the_continue_probability() -> None:
    # ret2 = 3 + 0.4 * 30 = 15;  ret1 = 2 + 0.5 (10 + 0.5 * 15) = 10.75;  ret0 = 1 + 0.25 (5 + 0.5 * 10.75)
    ret = lambda_return(REWARD, CONT, VALUE, lambda_=0.5, discount=0.5)
    torch.testing.assert_close(ret, torch.tensor([[3.59375, 10.75, 15.0]]))


def test_lambda_zero_looks_one_step_ahead() -> None:
    ret = lambda_return(REWARD, CONT, VALUE, lambda_=0.0)
    torch.testing.assert_close(ret, REWARD[:, 1:] + CONT[:, 1:] * VALUE[:, 1:])


def test_lambda_one_is_the_discounted_sum_of_rewards_and_the_last_value() -> None:
    # ret0 = 1 + 0.5 (2 + 1 (3 + 0.8 * 30)) = 15.5
    ret = lambda_return(REWARD, CONT, VALUE, lambda_=1.0)
    torch.testing.assert_close(ret, torch.tensor([[15.5, 29.0, 27.0]]))


def test_a_continue_of_zero_leaves_the_reward_alone() -> None:
    ret = lambda_return(REWARD, torch.zeros_like(CONT), VALUE, lambda_=0.95)
    torch.testing.assert_close(ret, REWARD[:, 1:])


def test_the_final_row_of_an_episode_cuts_the_recursion_but_not_its_own_value() -> None:
    is_last = torch.tensor([[False, False, True, False]])
    # ret1 = 2 + 1 * 20 = 22, without lambda;  ret0 = 1 + 0.5 (0.5 * 10 + 0.5 * 22) = 9
    ret = lambda_return(REWARD, CONT, VALUE, lambda_=0.5, is_last=is_last)
    torch.testing.assert_close(ret, torch.tensor([[9.0, 22.0, 27.0]]))
    later = torch.tensor([[0.0, 0.0, 0.0, 100.0]])  # another episode
    changed = lambda_return(REWARD + later, CONT + later, VALUE + later, lambda_=0.5, is_last=is_last)
    assert torch.equal(changed[:, :2], ret[:, :2])
    assert changed[0, 2] != ret[0, 2]


def test_an_is_last_that_is_false_everywhere_changes_nothing() -> None:
    none = torch.zeros_like(CONT, dtype=torch.bool)
    for lambda_ in (0.0, 0.95, 1.0):
        plain = lambda_return(REWARD, CONT, VALUE, lambda_)
        assert torch.equal(lambda_return(REWARD, CONT, VALUE, lambda_, is_last=none), plain)


def test_survival_includes_the_first_continue_probability() -> None:
    weight = survival(torch.tensor([[0.5, 0.8, 0.25], [0.0, 1.0, 1.0]]))
    torch.testing.assert_close(weight, torch.tensor([[0.5, 0.4, 0.1], [0.0, 0.0, 0.0]]))
