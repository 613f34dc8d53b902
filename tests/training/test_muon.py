"""Muon: orthogonal steps, AdamW's on the rest, against torch's own optimisers."""

from __future__ import annotations

import pytest
import torch

from convnext.models.create import create_model
from convnext.training.config import OptimConfig
from convnext.training.muon import Muon, orthogonalized
from convnext.training.optim import build_optimizer, parameter_groups


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 8, 32), (2, 32, 8), (1, 16, 16)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    matrices = random(*shape)
    result = orthogonalized(matrices)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3
    assert values.max() < 1.3
    for matrix, step in zip(matrices, result, strict=True):
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        inner = u.T @ step @ vh.T  # diagonal, if the singular vectors are the same
        torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-4, rtol=0)


def test_matrices_of_one_shape_do_not_see_each_other() -> None:
    pair = torch.stack([random(8, 4), 100 * random(8, 4, seed=1)])
    alone = torch.cat([orthogonalized(pair[:1]), orthogonalized(pair[1:])])
    torch.testing.assert_close(orthogonalized(pair), alone)


def test_three_steps_are_torchs_muon() -> None:
    """Torch's rounds are in bfloat16, hence the tolerance: an hundredth of a step's largest entry or so."""
    ours, theirs = random(12, 6).requires_grad_(), random(12, 6).requires_grad_()
    group = {"params": [ours], "lr": 0.02, "weight_decay": 0.1, "matrices": True}
    optimizer = Muon([group], momentum=0.9, betas=(0.9, 0.999), eps=1e-8)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=True)
    start = ours.detach().clone()
    for step in range(3):
        ours.grad, theirs.grad = random(12, 6, seed=step + 1), random(12, 6, seed=step + 1)
        optimizer.step()
        reference.step()
    assert (ours - start).abs().max() > 0.02
    torch.testing.assert_close(ours, theirs, atol=1.5e-3, rtol=0)


def test_filters_are_rows() -> None:
    """A convolution steps as the matrix (C_out, C_in * k * k) does, whatever its memory format."""
    weight = random(6, 4, 2, 2).contiguous(memory_format=torch.channels_last).requires_grad_()
    matrix = weight.detach().contiguous().flatten(1).clone().requires_grad_()
    gradient = random(6, 4, 2, 2, seed=1)
    weight.grad, matrix.grad = gradient.contiguous(memory_format=torch.channels_last), gradient.flatten(1)
    groups = [{"params": [p], "lr": 0.1, "weight_decay": 0.0, "matrices": True} for p in (weight, matrix)]
    Muon(groups, momentum=0.9, betas=(0.9, 0.999), eps=1e-8).step()
    torch.testing.assert_close(weight.detach().flatten(1), matrix.detach())


def test_the_rest_is_torchs_adamw() -> None:
    ours, theirs = random(5).requires_grad_(), random(5).requires_grad_()
    group = {"params": [ours], "lr": 0.02, "weight_decay": 0.1, "matrices": False}
    optimizer = Muon([group], momentum=0.9, betas=(0.8, 0.9), eps=1e-8)
    reference = torch.optim.AdamW([theirs], lr=0.02, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-8)
    for step in range(3):
        ours.grad, theirs.grad = random(5, seed=step + 1), random(5, seed=step + 1)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_tiny", "convnext_isotropic_small", "convnext_large_mlp"])
@pytest.mark.parametrize("blocks_per_group", [1, 3])
def test_inner_matrices_alone_are_stepped_as_such(name: str, blocks_per_group: int) -> None:
    with torch.device("meta"):
        model = create_model(name)
    config = OptimConfig("muon", lr=1e-3, matrix_lr=0.02, layer_decay=0.9, blocks_per_group=blocks_per_group)
    matrices: set[str] = set()
    for group in parameter_groups(model, config):
        if group["matrices"]:
            matrices.update(group["names"])
            assert group["lr_scale"] <= 20.0 * 0.9
            assert group["weight_decay"] == config.weight_decay
    ends = ("pwconv1.weight", "pwconv2.weight", "1.1.weight", "2.1.weight", "3.1.weight")
    expected = {name for name, _ in model.named_parameters() if name.endswith(ends)}
    assert matrices == expected


def test_parameters_without_gradient_are_left_alone() -> None:
    model = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3)
    optimizer = build_optimizer(model, OptimConfig("muon"))
    assert isinstance(optimizer, Muon)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    weight = random(4, 3).requires_grad_()
    before = weight.detach().clone()
    optimizer = Muon(
        [{"params": [weight], "lr": 0.1, "weight_decay": 0.0, "matrices": True}],
        momentum=0.9,
        betas=(0.9, 0.999),
        eps=1e-8,
    )

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == pytest.approx(before.square().sum().item())
    assert not torch.equal(weight.detach(), before)
