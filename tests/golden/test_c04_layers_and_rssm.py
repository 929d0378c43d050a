"""Parity of single layers, initialisers, and the recurrent state-space model."""

import re

import numpy as np
import pytest
import torch
from parameters import gradient, load, our_layout, their_layout
from torch import nn

from dreamer.config.schema import RSSMConfig
from dreamer.nn.convs import Conv, StridedConv, UpConv, mirrored
from dreamer.nn.distributions import categorical_entropy, kl_losses, one_hot
from dreamer.nn.layers import MLP, BlockLinear, Linear, RMSNorm, init_weight_
from dreamer.types import Latent
from dreamer.world_model.rssm import RSSM

ROOT = "world_model.rssm"


def build_layer(name: str, g) -> nn.Module:
    shape = {path.rpartition("/")[2]: g.array(path).shape for path in g.names(f"p/{name}/")}
    size = g.array("img" if name.startswith("conv") else "rmsimg_in" if name == "rmsimg" else "x").shape[-1]
    if name in ("rms", "rmsimg"):
        return RMSNorm(size)
    if name == "rms1em6":
        return RMSNorm(size, eps=1e-6)
    if name == "layer":
        return nn.LayerNorm(size, eps=1e-4)
    if name.startswith("linear"):
        return Linear(*shape["kernel"])
    if name == "block":
        blocks, chunk, out = shape["kernel"]
        return BlockLinear(blocks * chunk, blocks * out, blocks)
    if name == "mlp":
        layers = len(g.names("p/mlp/norm"))
        return MLP(size, g.array("p/mlp/linear0/bias").shape[0], layers)
    kernel, _, before, after = shape["kernel"]
    if name == "convt":
        return UpConv(before, after, kernel, transposed=True)
    return (Conv if name == "conv1" else StridedConv)(before, after, kernel)


def our_parameter(name: str, path: str) -> str:
    leaf = path.removeprefix(f"p/{name}/")
    if name == "layer":
        return {"scale": "weight", "shift": "bias"}[leaf]
    leaf = re.sub(r"(linear|norm)(\d)/", r"\2.\1.", leaf)
    return leaf.replace("kernel", "weight")


@pytest.mark.parametrize(
    "name",
    ["rms", "layer", "rms1em6", "linear", "linear2d", "block", "conv1", "conv2", "convt", "rmsimg", "mlp"],
)
def test_layer(golden, name):
    g = golden("c04a_layers")
    layer = build_layer(name, g)
    params = dict(layer.named_parameters())
    paths = g.names(f"p/{name}/")
    with torch.no_grad():
        for path in paths:
            params[our_parameter(name, path)].copy_(our_layout(g.array(path), path))
    source = "img" if name.startswith("conv") else "rmsimg_in" if name == "rmsimg" else "x"
    x = g.tensor(source).requires_grad_()
    out = mirrored(layer(mirrored(x))) if isinstance(layer, StridedConv) else layer(x)
    out = out.reshape(g.array(f"{name}_out").shape)
    (out * g.tensor(f"{name}_w")).sum().backward()
    g.close(f"{name}_out", out, 1e-5, 5e-6)
    g.close_grad(f"{name}_gradx", x.grad)
    for path in paths:
        g.close_grad(path.replace("p/", "grad/", 1), their_layout(params[our_parameter(name, path)].grad, path))


def test_initialiser(golden):
    g = golden("c04a_layers")
    for name in ("linear", "block", "conv", "wide"):
        shape = tuple(g.array(f"init_{name}_shape").tolist())
        fan_in, _, _, _, expected, bound = g.array(f"init_{name}_stats").tolist()
        if name == "block":
            blocks, chunk, out = shape
            weight = BlockLinear(blocks * chunk, blocks * out, blocks).weight
        elif name == "conv":
            weight = Conv(shape[2], shape[3], shape[0]).weight
        else:
            weight = Linear(*shape).weight
        assert weight.std().item() == pytest.approx(expected, rel=0.02)
        assert expected == pytest.approx(fan_in**-0.5, rel=1e-4)
        assert weight.abs().max() <= bound * 1.0001
        assert abs(weight.mean().item()) < 5 * expected * weight.numel() ** -0.5
    assert g.array("init_bias_like_stats")[0] == 1  # a vector counts as fan-in 1
    vector = init_weight_(torch.empty(g.array("init_bias_like_shape").tolist()), fan_in=1)
    assert vector.std().item() == pytest.approx(g.array("init_bias_like_stats")[4], rel=0.1)
    weight = Linear(300, 1000, outscale=0.01).weight
    assert weight.std().item() == pytest.approx(float(g.array("init_outscale001_std")), rel=0.02)


@pytest.fixture
def rssm_case(golden):
    g = golden("c04b_rssm")
    deter, hidden, stoch, classes, blocks, action, embed = g.array("cfg").tolist()
    layers = {n: len(g.names(f"p/dyn/{n}")) // 3 for n in ("dynhid", "prior", "obs")}
    config = RSSMConfig(
        deter=deter, hidden=hidden, stoch=stoch, classes=classes, blocks=blocks,
        dyn_layers=layers["dynhid"], obs_layers=layers["obs"], img_layers=layers["prior"],
    )  # fmt: skip
    rssm = RSSM(config, embed, action)
    load(rssm, {p.removeprefix("p/"): g.array(p) for p in g.names("p/")}, ROOT)
    return g, rssm, Latent(g.tensor("deter0"), g.tensor("stoch0"))


def test_recurrent_step_and_its_gradients(rssm_case):
    g, rssm, start = rssm_case
    deter, stoch = start.deter.requires_grad_(), start.stoch.requires_grad_()
    action = g.tensor("action")[:, 0].clone().requires_grad_()
    out = rssm.recur(Latent(deter, stoch), action)
    g.close("core_out", out, 2e-5, 2e-5)
    g.close("core_prior_logit", rssm.prior(out), 2e-5, 2e-5)
    (out * g.tensor("core_w")).sum().backward()
    for name, leaf in (("deter", deter), ("stoch", stoch), ("action", action)):
        g.close_grad(f"core_grad_{name}", leaf.grad)
    for path in g.names("core_grad/"):
        g.close_grad(path, gradient(rssm, path.removeprefix("core_grad/"), ROOT))


def compare_sequence(g, prefix, latent, post_logits, rssm):
    prior_logits = rssm.prior(latent.deter)
    g.close(f"{prefix}_deter", latent.deter, 2e-5, 2e-5)
    g.close(f"{prefix}_post_logit", post_logits, 2e-5, 2e-5)
    g.close(f"{prefix}_prior_logit", prior_logits, 2e-5, 2e-5)
    g.close(f"{prefix}_stoch", latent.stoch, 2e-5, 2e-5)
    dyn, rep = kl_losses(post_logits, prior_logits, 0.01, 1.0)
    g.close(f"{prefix}_dyn", dyn, 1e-4, 2e-5)
    g.close(f"{prefix}_rep", rep, 1e-4, 2e-5)
    g.close(f"{prefix}_dyn_ent", categorical_entropy(prior_logits, 0.01).mean(), 1e-4, 2e-5)
    g.close(f"{prefix}_rep_ent", categorical_entropy(post_logits, 0.01).mean(), 1e-4, 2e-5)
    return dyn, rep


def test_sequence_with_resets_and_its_gradients(rssm_case, mode_sampling):
    g, rssm, start = rssm_case
    latent, logits = rssm.observe(g.tensor("tokens"), g.tensor("action"), g.tensor("reset"), start)
    dyn, rep = compare_sequence(g, "mode", latent, logits, rssm)
    total = dyn.mean() + 0.1 * rep.mean()
    total = total + (latent.deter * g.tensor("seq_w_deter")).sum() + (latent.stoch * g.tensor("seq_w_stoch")).sum()
    g.close("seq_total", total, 1e-4, 2e-5)
    total.backward()
    for path in g.names("seq_grad/"):
        g.close_grad(path, gradient(rssm, path.removeprefix("seq_grad/"), ROOT))


def test_sequence_with_given_samples(rssm_case, monkeypatch):
    g, rssm, start = rssm_case
    samples = iter(g.tensor("samp_stoch").argmax(-1).unbind(1))
    monkeypatch.setattr("dreamer.nn.distributions.sample_index", lambda probs, noise=None: next(samples))
    latent, logits = rssm.observe(g.tensor("tokens"), g.tensor("action"), g.tensor("reset"), start)
    compare_sequence(g, "samp", latent, logits, rssm)


def test_imagination(rssm_case, mode_sampling):
    g, rssm, latent = rssm_case
    steps = []
    for action in g.tensor("img_action").unbind(1):
        latent = rssm.imagine_step(latent, action)
        steps.append((latent.deter, rssm.prior(latent.deter), latent.stoch))
    for name, values in zip(("deter", "logit", "stoch"), zip(*steps, strict=True), strict=True):
        g.close(f"img_{name}", torch.stack(values, 1), 2e-5, 2e-5)


def test_discrete_actions_are_a_zero_vector_after_a_reset(rssm_case, mode_sampling):
    g, rssm, start = rssm_case
    action = one_hot(g.tensor("disc_action"), rssm.cell.embed_action.linear.in_features)
    latent, logits = rssm.observe(g.tensor("tokens"), action, g.tensor("reset"), start)
    g.close("disc_deter", latent.deter, 2e-5, 2e-5)
    g.close("disc_post_logit", logits, 2e-5, 2e-5)
    g.close("disc_stoch", latent.stoch, 2e-5, 2e-5)
    assert np.array_equal(g.array("disc_action").shape, latent.deter.shape[:2])
