"""Observations of several kinds through encoder and decoder."""

import itertools
from typing import Any

import pytest
import torch
from tiny import values
from torch.nn.functional import cross_entropy

from dreamer.config.schema import DecoderConfig, EncoderConfig
from dreamer.nn.decoder import Decoder
from dreamer.nn.encoder import Encoder
from dreamer.nn.patches import split_patches
from dreamer.ops.symlog import symlog
from dreamer.types import Latent, Space

SPACES = {
    "wrist": Space((16, 16, 3), "uint8"),
    "depth": Space((16, 16, 1), "uint8"),
    "pose": Space((2, 3), "float32"),
    "height": Space((), "float32"),
    "dials": Space((2,), "int32", (4, 2)),
}
UNITS, DEPTH, DETER, STOCH = 10, 2, 8, 6


def encoder(spaces: dict[str, Space], mults: tuple[int, ...] = (2, 3), **layers: Any) -> Encoder:
    return Encoder(EncoderConfig(layers=1, mults=list(mults), **layers), spaces, UNITS, DEPTH)


def decoder(spaces: dict[str, Space], mults: tuple[int, ...] = (2, 3), **layers: Any) -> Decoder:
    config = DecoderConfig(layers=1, mults=list(mults), blocks=2, **layers)
    return Decoder(config, spaces, DETER, STOCH, UNITS, DEPTH)


def latent() -> Latent:
    return Latent(torch.randn(2, 3, DETER), torch.randn(2, 3, 2, 3))


def observations(spaces: dict[str, Space]) -> dict[str, torch.Tensor]:
    return {key: values(space, 2, 3) for key, space in spaces.items()}


def test_vector_features_come_before_image_features() -> None:
    net, obs = encoder(SPACES), observations(SPACES)
    embed = net(obs)
    assert embed.shape == (2, 3, UNITS + 4 * 4 * 3 * DEPTH)
    assert net.out_features == embed.shape[-1]
    other = observations(SPACES)
    for key, space in SPACES.items():
        changed = (net({**obs, key: other[key]}) != embed).any(0).any(0)
        assert changed[:UNITS].any().item() is not space.is_image, key
        assert changed[UNITS:].any().item() is space.is_image, key


def test_the_order_in_which_an_environment_names_its_keys_does_not_matter() -> None:
    net, obs = encoder(SPACES), observations(SPACES)
    turned = encoder(dict(reversed(SPACES.items())))
    turned.load_state_dict(net.state_dict())
    assert torch.equal(turned(dict(reversed(obs.items()))), net(obs))


def test_several_images_are_one_image_of_more_channels() -> None:
    images = {key: SPACES[key] for key in ("wrist", "depth")}
    net, obs = encoder(images), observations(images)
    stacked = encoder({"all": Space((16, 16, 4), "uint8")})
    stacked.load_state_dict(net.state_dict())
    assert torch.equal(stacked({"all": torch.cat([obs["depth"], obs["wrist"]], -1)}), net(obs))


def test_vectors_are_symlogged_and_discrete_entries_one_hot() -> None:
    net = encoder(SPACES)
    torch.testing.assert_close(net.flat_vector("height", torch.full((2, 3), -50.0)), -torch.full((2, 3, 1), 51.0).log())
    pose = torch.randn(2, 3, 2, 3)
    assert torch.equal(net.flat_vector("pose", pose), symlog(pose).reshape(2, 3, 6))
    dials = net.flat_vector("dials", torch.tensor([[[2, 1]]], dtype=torch.int32))
    assert dials.tolist() == [[[0, 0, 1, 0, 0, 1]]]


@pytest.mark.parametrize("layers", [{}, {"strided": True}, {"patch": 4}])
@pytest.mark.parametrize("size", [(96, 96), (32, 48)])
def test_images_of_other_sizes_come_back_in_their_size(size: tuple[int, int], layers: dict[str, Any]) -> None:
    spaces = {"image": Space((*size, 1), "uint8")}
    obs = observations(spaces)
    mults = (1, 1, 2) if "patch" in layers else (1, 1, 2, 2)
    net = encoder(spaces, mults, **layers)
    assert net(obs).shape == (2, 3, net.out_features)
    assert net.out_features == size[0] * size[1] // 256 * 2 * DEPTH
    net = decoder(spaces, (1, 1, 2, 2), strided="strided" in layers)
    assert net.observations(net(latent()))["image"].shape == (2, 3, *size, 1)


def test_predictions_have_the_shape_and_units_of_the_observations() -> None:
    net = decoder(SPACES)
    got = net.observations(net(latent()))
    assert set(got) == set(SPACES)
    for key, space in SPACES.items():
        assert got[key].shape == (2, 3, *space.shape), key
        if space.is_image:
            assert got[key].min() >= 0
            assert got[key].max() <= 1
        for i, classes in enumerate(space.classes):
            assert got[key].dtype == torch.int64
            assert 0 <= got[key][..., i].min() <= got[key][..., i].max() < classes


def test_a_perfect_prediction_has_no_loss_and_reads_back_as_the_observation() -> None:
    net, obs = decoder(SPACES), observations(SPACES)
    perfect = {key: split_patches(obs[key] / 255, 2) for key in ("wrist", "depth")}
    perfect |= {key: symlog(obs[key]).reshape(2, 3, -1) for key in ("pose", "height")}
    perfect["dials"] = 100 * encoder(SPACES).flat_vector("dials", obs["dials"])
    for key, loss in net.errors(perfect, obs).items():
        assert torch.equal(loss, torch.zeros(2, 3)), key
    back = net.observations(perfect)
    torch.testing.assert_close(back["pose"], obs["pose"])
    torch.testing.assert_close(back["height"], obs["height"])
    assert torch.equal(back["dials"], obs["dials"].long())
    torch.testing.assert_close(255 * back["wrist"], obs["wrist"].float())


def test_of_images_one_in_so_many_steps_is_reconstructed_from_a_random_first_one() -> None:
    net, obs, states = decoder(SPACES, every=3), observations(SPACES), latent()
    whole = net.errors(net(states), obs)
    met = set()
    for seed in range(20):
        torch.manual_seed(seed)
        losses = net.losses(states, obs)
        for key, loss in losses.items():
            if not SPACES[key].is_image:
                torch.testing.assert_close(loss, whole[key])
        (step,) = (t for t in range(3) if torch.allclose(losses["wrist"], whole["wrist"][:, [t]]))
        torch.testing.assert_close(losses["depth"], whole["depth"][:, [step]])
        met.add(step)
    assert met == {0, 1, 2}


def test_losses_sum_over_the_dimensions_of_a_key() -> None:
    net, obs = decoder(SPACES), observations(SPACES)
    outputs = {key: torch.zeros_like(value) for key, value in net(latent()).items()}
    outputs["dials"] = torch.randn(2, 3, 6)
    losses = net.errors(outputs, obs)
    for b, t in itertools.product(range(2), range(3)):
        torch.testing.assert_close(losses["pose"][b, t], symlog(obs["pose"][b, t]).square().sum())
        torch.testing.assert_close(losses["height"][b, t], symlog(obs["height"][b, t]) ** 2)
        torch.testing.assert_close(losses["depth"][b, t], (obs["depth"][b, t] / 255).square().sum())
        first, second = outputs["dials"][b, t].split([4, 2])
        target = obs["dials"][b, t].long()
        torch.testing.assert_close(
            losses["dials"][b, t], cross_entropy(first, target[0]) + cross_entropy(second, target[1])
        )


@torch.no_grad()
def test_each_image_key_gets_its_own_channels() -> None:
    net = decoder(SPACES)
    last = net.image.convs[-1]
    last.weight.zero_()
    last.bias.copy_(torch.tensor([-3.0, 0.0, 1.0, 2.0]))  # keys in sorted order: depth, then wrist
    outputs = net.observations(net(latent()))
    torch.testing.assert_close(outputs["depth"][0, 0, 5, 5], torch.sigmoid(torch.tensor([-3.0])))
    torch.testing.assert_close(outputs["wrist"][1, 2, 0, 9], torch.sigmoid(torch.tensor([0.0, 1.0, 2.0])))


@pytest.mark.parametrize("part", ["deter", "stoch"])
def test_every_key_is_predicted_from_both_parts_of_the_latent(part: str) -> None:
    net, start = decoder(SPACES), latent()
    before, after = net(start), net(start._replace(**{part: getattr(start, part).flip(0)}))
    for key in SPACES:
        assert not torch.equal(before[key], after[key]), key
