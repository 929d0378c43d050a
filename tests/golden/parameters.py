"""The authors' parameter names and layouts, and ours."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor, nn

RULES = [
    (r"dyn/dyngru", "world_model.rssm.cell.gates"),
    (r"dyn/dynhid(\d+)norm", r"world_model.rssm.cell.hidden_norms.\1"),
    (r"dyn/dynhid(\d+)", r"world_model.rssm.cell.hidden.\1"),
    (r"dyn/dynin0norm", "world_model.rssm.cell.embed_deter.norm"),
    (r"dyn/dynin0", "world_model.rssm.cell.embed_deter.linear"),
    (r"dyn/dynin1norm", "world_model.rssm.cell.embed_stoch.norm"),
    (r"dyn/dynin1", "world_model.rssm.cell.embed_stoch.linear"),
    (r"dyn/dynin2norm", "world_model.rssm.cell.embed_action.norm"),
    (r"dyn/dynin2", "world_model.rssm.cell.embed_action.linear"),
    (r"dyn/obs(\d+)norm", r"world_model.rssm.posterior_net.0.\1.norm"),
    (r"dyn/obs(\d+)", r"world_model.rssm.posterior_net.0.\1.linear"),
    (r"dyn/obslogit", "world_model.rssm.posterior_net.1"),
    (r"dyn/prior(\d+)norm", r"world_model.rssm.prior_net.0.\1.norm"),
    (r"dyn/prior(\d+)", r"world_model.rssm.prior_net.0.\1.linear"),
    (r"dyn/priorlogit", "world_model.rssm.prior_net.1"),
    (r"enc/mlp(\d+)norm", r"world_model.encoder.vector.\1.norm"),
    (r"enc/mlp(\d+)", r"world_model.encoder.vector.\1.linear"),
    (r"enc/cnn(\d+)norm", r"world_model.encoder.image.norms.\1"),
    (r"enc/cnn(\d+)", r"world_model.encoder.image.convs.\1"),
    (r"dec/mlp/linear(\d+)", r"world_model.decoder.mlp.\1.linear"),
    (r"dec/mlp/norm(\d+)", r"world_model.decoder.mlp.\1.norm"),
    (r"dec/vec/(\w+)/(?:pred|logits)", r"world_model.decoder.vectors.\1"),
    (r"dec/sp0", "world_model.decoder.image.from_deter"),
    (r"dec/sp1norm", "world_model.decoder.image.from_stoch.0.norm"),
    (r"dec/sp1", "world_model.decoder.image.from_stoch.0.linear"),
    (r"dec/sp2", "world_model.decoder.image.from_stoch.1"),
    (r"dec/spnorm", "world_model.decoder.image.start_norm"),
    (r"rew/mlp/linear(\d+)", r"world_model.reward.mlp.\1.linear"),
    (r"rew/mlp/norm(\d+)", r"world_model.reward.mlp.\1.norm"),
    (r"rew/head/logits", "world_model.reward.out"),
    (r"con/mlp/linear(\d+)", r"world_model.cont.mlp.\1.linear"),
    (r"con/mlp/norm(\d+)", r"world_model.cont.mlp.\1.norm"),
    (r"con/head/logit", "world_model.cont.out"),
    (r"pol/mlp/linear(\d+)", r"actor_critic.actor.mlp.\1.linear"),
    (r"pol/mlp/norm(\d+)", r"actor_critic.actor.mlp.\1.norm"),
    (r"pol/head/action/mean", "actor_critic.actor.mean"),
    (r"pol/head/action/stddev", "actor_critic.actor.std"),
    (r"pol/head/action/logits", "actor_critic.actor.logits"),
    (r"val/mlp/linear(\d+)", r"actor_critic.critic.mlp.\1.linear"),
    (r"val/mlp/norm(\d+)", r"actor_critic.critic.mlp.\1.norm"),
    (r"val/head/logits", "actor_critic.critic.out"),
    (r"slowval/mlp/linear(\d+)", r"actor_critic.slow_critic.module.mlp.\1.linear"),
    (r"slowval/mlp/norm(\d+)", r"actor_critic.slow_critic.module.mlp.\1.norm"),
    (r"slowval/head/logits", "actor_critic.slow_critic.module.out"),
]


def our_name(path: str, root: str = "", stages: int = 4) -> str:
    """`dyn/obs0/kernel` -> `world_model.rssm.posterior_net.0.0.linear.weight`, below `root`."""
    layer, _, leaf = path.rpartition("/")
    leaf = {"kernel": "weight"}.get(leaf, leaf)
    if layer == "dec/imgout":
        ours = f"world_model.decoder.image.convs.{stages - 1}"
    elif match := re.fullmatch(r"dec/conv(\d+)(norm)?", layer):
        ours = f"world_model.decoder.image.{'norms' if match[2] else 'convs'}.{stages - 2 - int(match[1])}"
    else:
        ours = next((re.sub(rule, name, layer) for rule, name in RULES if re.fullmatch(rule, layer)), "")
    assert ours, f"no rule for {path}"
    assert ours.startswith(root), (ours, root)
    return f"{ours}.{leaf}".removeprefix(root).removeprefix(".")


def our_layout(array: np.ndarray, path: str) -> Tensor:
    """Linear (in, out) -> (out, in); convolution HWIO -> OIHW; block-linear and vectors unchanged."""
    tensor = torch.from_numpy(np.array(array))
    if path.endswith("kernel") and tensor.dim() == 2:
        return tensor.T.contiguous()
    if path.endswith("kernel") and tensor.dim() == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    return tensor


def their_layout(tensor: Tensor, path: str) -> Tensor:
    if path.endswith("kernel") and tensor.dim() == 2:
        return tensor.T
    if path.endswith("kernel") and tensor.dim() == 4:
        return tensor.permute(2, 3, 1, 0)
    return tensor


def load(module: nn.Module, arrays: dict[str, np.ndarray], root: str = "", partial: bool = False) -> None:
    """Copy every array (by the authors' path) into our parameter; all of ours must be covered unless partial."""
    params = dict(module.named_parameters())
    left = set(params)
    with torch.no_grad():
        for path, array in arrays.items():
            name = our_name(path, root)
            value = our_layout(array, path)
            assert params[name].shape == value.shape, (path, name, params[name].shape, value.shape)
            params[name].copy_(value)
            left.discard(name)
    assert partial or not left, left


def gradient(module: nn.Module, path: str, root: str = "") -> Tensor:
    grad = dict(module.named_parameters())[our_name(path, root)].grad
    assert grad is not None, path
    return their_layout(grad, path)


def parameter(module: nn.Module, path: str, root: str = "") -> Tensor:
    return their_layout(dict(module.named_parameters())[our_name(path, root)].detach(), path)
