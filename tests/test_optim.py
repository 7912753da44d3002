"""AdamW, its learning rate and the losses against their formulas."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_training import Toy

from pyrad.errors import IntegrityError
from pyrad.train.optim import learning_rate, make_adamw, optimizer_tensors, restore_optimizer
from pyrad.train.validate import class_loss


@settings(max_examples=50, deadline=None)
@given(total=st.integers(1, 500), warmup=st.floats(0, 1), peak=st.floats(1e-6, 1))
def test_the_learning_rate_rises_then_falls_and_never_passes_its_peak(total, warmup, peak):
    rates = [learning_rate(step, total=total, warmup=warmup, peak=peak) for step in range(total)]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    top = max(round(warmup * total), 1)
    assert all(a < b for a, b in pairwise(rates[:top]))
    assert all(a > b for a, b in pairwise(rates[top:]))


def test_adamw_follows_its_formula_whatever_the_memory_layout_and_after_a_restore():
    torch.manual_seed(0)
    model = Toy(num_classes=2, in_chans=3).to(memory_format=torch.channels_last)
    optimizer = make_adamw(model, weight_decay=0.1)
    lr, beta1, beta2, eps = 0.01, 0.9, 0.999, 1e-8
    expected = {name: value.detach().clone().double() for name, value in model.named_parameters()}
    first = {name: torch.zeros_like(value) for name, value in expected.items()}
    second = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step in range(1, 4):
        if step == 3:
            saved = {name: value.clone() for name, value in optimizer_tensors(optimizer, model).items()}
            assert set(saved) == {
                f"{kind}/{name}" for kind in ("step", "exp_avg", "exp_avg_sq") for name in expected
            }
            optimizer = make_adamw(model, weight_decay=0.1)
            contiguous = {name: value.contiguous() for name, value in saved.items()}
            restore_optimizer(optimizer, model, contiguous)
        optimizer.zero_grad()
        model(torch.randn(4, 3, 16, 16)).square().sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = lr
        for name, parameter in model.named_parameters():
            gradient = parameter.grad.double()
            first[name] = beta1 * first[name] + (1 - beta1) * gradient
            second[name] = beta2 * second[name] + (1 - beta2) * gradient**2
            decay = 0.1 if parameter.ndim > 1 else 0.0
            corrected = (second[name] / (1 - beta2**step)).sqrt() + eps
            expected[name] = (
                expected[name] * (1 - lr * decay) - lr * first[name] / (1 - beta1**step) / corrected
            )
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-5, atol=1e-6)
    with pytest.raises(IntegrityError, match="exp_avg/nothing"):
        restore_optimizer(optimizer, model, {"exp_avg/nothing": torch.zeros(3)})


def test_the_losses_against_their_formulas():
    torch.manual_seed(0)
    logits = torch.randn(5, 3, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    log_p = logits - logits.exp().sum(dim=1, keepdim=True).log()
    smooth = torch.full((5, 3), 0.1 / 3, dtype=torch.float64)
    smooth[torch.arange(5), labels] += 0.9
    found = class_loss(logits, labels, multi_label=False, smoothing=0.1)
    torch.testing.assert_close(found, -(smooth * log_p).sum(dim=1).mean())
    hot = torch.tensor([[1, 0, 1]] * 5, dtype=torch.float64)
    p = 1 / (1 + (-logits).exp())
    smooth = hot * 0.9 + 0.05
    expected = -(smooth * p.log() + (1 - smooth) * (1 - p).log()).mean()
    torch.testing.assert_close(class_loss(logits, hot, multi_label=True, smoothing=0.1), expected)
