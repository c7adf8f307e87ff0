"""Muon is the published optimizer, on convolutions too, and every parameter has exactly one optimizer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sd_core.training.optimizers import Muon, make_optimizers, orthogonalised


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(2, 40), st.integers(2, 40), st.floats(1e-4, 1e4), st.integers(0, 100))
def test_orthogonalising_pushes_all_singular_values_near_one(rows, columns, scale, seed):
    # Singular values from 0.05 to 1 of the largest: the iteration is known to reach this far.
    left, _, right = torch.linalg.svd(normal(rows, columns, seed=seed), full_matrices=False)
    before = torch.linspace(0.05, 1, min(rows, columns))
    after = torch.linalg.svdvals(orthogonalised(scale * left @ torch.diag(before) @ right))
    assert after.shape == before.shape
    assert (after > 0.6).all() and (after < 1.3).all()


def test_orthogonalising_keeps_the_directions():
    matrix = normal(12, 30)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonalised(matrix) @ right.T
    assert (turned - turned.diag().diag()).abs().max() < 1e-3
    assert (turned.diag() > 0.5).all()


def test_orthogonalising_a_transposed_matrix_gives_the_transpose():
    matrix = normal(30, 12)
    torch.testing.assert_close(orthogonalised(matrix).T, orthogonalised(matrix.T.contiguous()))


def test_no_gradient_gives_no_update():
    assert not orthogonalised(torch.zeros(4, 6)).any()


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_muon_equals_torchs_on_a_matrix(shape):
    start = normal(*shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = Muon([ours], lr=0.02, momentum=0.95, weight_decay=0.1)
    torchs = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        ours.grad = normal(*shape, seed=step + 1)
        theirs.grad = ours.grad.clone()
        mine.step()
        torchs.step()
    moved = (theirs - start).norm()
    assert moved > 0.1
    assert (ours - theirs).norm() < 0.03 * moved  # torch's works in bfloat16


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_is_updated_as_the_matrix_it_flattens_to(memory_format):
    start = normal(8, 6, 3, 3)
    convolution = nn.Parameter(start.clone().to(memory_format=memory_format))
    matrix = nn.Parameter(start.clone().flatten(1))
    both = Muon([convolution, matrix], lr=0.02)
    for step in range(3):
        gradient = normal(8, 6, 3, 3, seed=step + 1)
        convolution.grad, matrix.grad = gradient.clone().to(memory_format=memory_format), gradient.flatten(1)
        both.step()
    torch.testing.assert_close(convolution.detach().flatten(1), matrix.detach())
    assert convolution.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (64, 16), (16, 8, 3, 3)])
def test_an_update_is_as_large_as_adamws_usual_one(shape):
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = normal(*shape)
    Muon([weight], lr=1.0).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.25)


def test_weight_decay_shrinks_weights_without_a_gradient_to_follow():
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_weights_without_a_gradient_are_left_alone():
    weight = nn.Parameter(torch.ones(4, 4))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weight.detach(), torch.ones(4, 4))


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_parameter_has_exactly_one_optimizer(generator, name):
    edges = (generator.unet.stem, generator.unet.head, generator.text.token)
    optimizers = make_optimizers(generator, name, 1e-3, 0.01, edges)
    held = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in generator.parameters())
    assert len(optimizers) == (2 if name == "muon" else 1)


def test_muon_gets_the_matrices_between_the_edges_and_nothing_else(generator):
    edges = (generator.unet.stem, generator.unet.head, generator.text.token)
    adamw, muon = make_optimizers(generator, "muon", 1e-3, 0.01, edges)
    held = {id(p) for group in muon.param_groups for p in group["params"]}
    on_edge = {id(p) for module in edges for p in module.parameters()}
    assert held
    for parameter in generator.parameters():
        assert (id(parameter) in held) == (parameter.ndim >= 2 and id(parameter) not in on_edge)


def test_biases_and_norms_do_not_decay(generator):
    for name in ("muon", "adamw"):
        for optimizer in make_optimizers(generator, name, 1e-3, 0.01):
            for group in optimizer.param_groups:
                decays = {p.ndim >= 2 for p in group["params"]}
                assert decays <= {group["weight_decay"] > 0}


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_an_optimizer_learns(name):
    torch.manual_seed(0)
    teacher, student = nn.Linear(8, 4), nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    x = normal(64, 8)
    losses = []
    optimizers = make_optimizers(student, name, 0.02, 0.0)
    for _ in range(60):
        loss = (student(x) - teacher(x).detach()).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert losses[-1] < losses[0] / 5
