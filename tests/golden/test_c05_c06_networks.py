"""Parity of encoder, decoder and heads."""

import numpy as np
import pytest
import torch
from parameters import gradient, load

from dreamer.config.schema import DecoderConfig, EncoderConfig
from dreamer.nn.decoder import Decoder
from dreamer.nn.encoder import Encoder
from dreamer.nn.heads import ContHead, TwoHotHead
from dreamer.ops.symlog import symlog
from dreamer.types import Latent, Space


def observations(g):
    """The fixture's observations and their spaces; `button` is a discrete entry."""
    obs = {name.removeprefix("obs_"): g.tensor(name) for name in g.names("obs_")}
    obs["button"] = obs["button"].unsqueeze(-1)
    return obs, {"image": g.tensor("image"), **obs}


def spaces(g, classes, obs):
    return {
        key: Space((1,), "int32", (classes,))
        if key == "button"
        else Space(tuple(value.shape[2:]), "uint8" if value.dtype == torch.uint8 else "float32")
        for key, value in obs.items()
    }


@pytest.mark.parametrize("variant", ["vec", "img", "strided"])
def test_encoder(golden, variant):
    g = golden("c05a_encoder")
    vectors, everything = observations(g)
    classes = g.array("p/vec/mlp0/kernel").shape[0] - sum(
        int(np.prod(value.shape[2:])) for key, value in vectors.items() if key != "button"
    )
    obs = vectors if variant == "vec" else {"image": everything["image"]}
    depth, layers, units = g.array("cfg").tolist()
    stages = len(g.names("p/img/cnn")) // 3
    mults = [g.array(f"p/img/cnn{i}/bias").shape[0] // depth for i in range(stages)]
    config = EncoderConfig(layers=layers, mults=mults, strided=variant == "strided")
    config.kernel = g.array("p/img/cnn0/kernel").shape[0]
    encoder = Encoder(config, spaces(g, classes, obs), units, depth)
    prefix, root = f"p/{variant}/", "world_model.encoder"
    load(encoder, {"enc/" + p.removeprefix(prefix): g.array(p) for p in g.names(prefix)}, root)
    tokens = encoder(obs)
    g.close(f"{variant}_tokens", tokens, 1e-4, 1e-5)
    (tokens * g.tensor(f"{variant}_w")).sum().backward()
    for path in g.names(f"grad/{variant}/"):
        g.close_grad(path, gradient(encoder, "enc/" + path.removeprefix(f"grad/{variant}/"), root))
    if variant == "strided":
        return
    both = Encoder(
        EncoderConfig(layers=layers, mults=mults, kernel=config.kernel), spaces(g, classes, everything), units, depth
    )
    for part in ("vec", "img"):
        prefix = f"p/{part}/"
        load(both, {"enc/" + p.removeprefix(prefix): g.array(p) for p in g.names(prefix)}, root, partial=True)
    g.close("both_tokens", both(everything), 1e-4, 1e-5)


def decoder_case(g, variant):
    vectors, everything = observations(g)
    classes = g.array("p/vec/vec/button/logits/bias").shape[0]
    obs = vectors if variant == "vec" else {"image": everything["image"]}
    depth, layers, units, blocks, *mults = g.array("cfg").tolist()
    config = DecoderConfig(layers=layers, mults=mults, strided=variant == "strided", blocks=blocks)
    config.kernel = g.array("p/img/imgout/kernel").shape[0]
    deter, stoch = g.tensor("deter").requires_grad_(), g.tensor("stoch").requires_grad_()
    sizes = deter.shape[-1], stoch.shape[-1] * stoch.shape[-2]
    decoder = Decoder(config, spaces(g, classes, obs), *sizes, units, depth)
    prefix = f"p/{variant}/"
    load(decoder, {"dec/" + p.removeprefix(prefix): g.array(p) for p in g.names(prefix)}, "world_model.decoder")
    return decoder, obs, deter, stoch


@pytest.mark.parametrize("variant", ["vec", "img", "strided"])
def test_decoder(golden, variant):
    g = golden("c05b_decoder")
    decoder, obs, deter, stoch = decoder_case(g, variant)
    outputs = decoder(Latent(deter, stoch))
    losses = decoder.errors(outputs, obs)
    for key, loss in losses.items():
        g.close(f"{variant}_{key}_loss", loss, 1e-4, 1e-3 if key == "image" else 1e-5)
    sum(loss.mean() for loss in losses.values()).backward()
    values = decoder.observations(outputs)
    if variant == "vec":
        g.close("vec_button_logits", outputs["button"], 1e-4, 1e-5)
        assert np.array_equal(values["button"][..., 0].numpy(), g.array("vec_button_pred"))
        for key in ("orientations", "height"):
            g.close(f"vec_{key}_pred", symlog(values[key].detach()), 1e-4, 1e-5)
    else:
        g.close(f"{variant}_image_pred", values["image"][..., ::3, ::3, :], 1e-4, 1e-5)
    g.close_grad(f"{variant}_grad_deter", deter.grad)
    g.close_grad(f"{variant}_grad_stoch", stoch.grad)
    for path in g.names(f"grad/{variant}/"):
        ours = gradient(decoder, "dec/" + path.removeprefix(f"grad/{variant}/"), "world_model.decoder")
        g.close_grad(path, ours)


@pytest.mark.parametrize("name", ["rew", "val"])
def test_two_hot_head(golden, name):
    g = golden("c06_heads")
    features, units = g.array("cfg").tolist()
    layers, bins = len(g.names(f"p/{name}/mlp/norm")), g.array(f"p/{name}/head/logits/bias").shape[0]
    head = TwoHotHead(features, units, layers, bins, outscale=0.0)
    feat = g.tensor("feat").requires_grad_()
    assert torch.equal(head.mean(head(feat)), g.tensor(f"{name}_pred_at_init"))
    root = {"rew": "world_model.reward", "val": "actor_critic.critic"}[name]
    load(head, {p.removeprefix("p/"): g.array(p) for p in g.names(f"p/{name}/")}, root)
    logits = head(feat)
    loss = head.loss(logits, g.tensor("reward" if name == "rew" else "value_target"))
    loss.mean().backward()
    g.close(f"{name}_logits", logits, 1e-5, 1e-5)
    g.close(f"{name}_pred", head.mean(logits), 1e-5, 1e-4)
    g.close(f"{name}_loss", loss, 1e-5, 1e-5)
    g.close_grad(f"{name}_grad_feat", feat.grad)
    for path in g.names(f"grad/{name}/"):
        g.close_grad(path, gradient(head, path.removeprefix("grad/"), root))


def test_continue_head(golden):
    g = golden("c06_heads")
    features, units = g.array("cfg").tolist()
    head = ContHead(features, units, len(g.names("p/con/mlp/norm")), outscale=1.0)
    load(head, {p.removeprefix("p/"): g.array(p) for p in g.names("p/con/")}, "world_model.cont")
    feat = g.tensor("feat").requires_grad_()
    logit, alive = head(feat), (~g.tensor("is_terminal")).float()
    g.close("con_logit", logit, 1e-5, 1e-5)
    g.close("con_prob1", torch.sigmoid(logit), 1e-5, 1e-5)
    g.close("con_loss_plain", head.loss(logit, alive), 1e-5, 1e-5)
    loss = head.loss(logit, alive * (1 - 1 / 333))
    g.close("con_loss_contdisc", loss, 1e-5, 1e-5)
    loss.mean().backward()
    g.close_grad("con_grad_feat", feat.grad)
    for path in g.names("grad/con/"):
        g.close_grad(path, gradient(head, path.removeprefix("grad/"), "world_model.cont"))
