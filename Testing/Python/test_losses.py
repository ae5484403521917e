"""The losses against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import one_hot

from dinsegment.training.losses import boundary_loss, dice_loss, din_loss, sobel


def random_case(seed=0, batch=2, classes=4, size=(16, 12)):
    """Logits (B, C, H, W) and labels (B, H, W)."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *size, generator=random)
    return logits, torch.randint(classes, (batch, *size), generator=random)


def channels(labels, classes):
    return one_hot(labels, classes).permute(0, 3, 1, 2).float()


def pooled(x, size):
    """Means of size x size blocks; a rest at the end is left out."""
    rows, columns = (n // size for n in x.shape[-2:])
    x = x[..., : rows * size, : columns * size]
    return x.reshape(*x.shape[:-2], rows, size, columns, size).mean((-3, -1))


def boundary_by_hand(probabilities, target):
    """Eq. 15 with scipy's Sobel, the norm a mean over pixels, classes and directions."""

    def gradients(x, scale):
        maps = pooled(x.numpy(), scale)
        maps = maps.reshape(-1, *maps.shape[-2:])
        return np.stack([ndimage.sobel(one, axis, mode="nearest") for one in maps for axis in (0, 1)])

    return sum(np.abs(gradients(probabilities, i) - gradients(target, i)).mean() for i in (1, 2, 4))


def test_sobel_is_scipys_horizontally_and_vertically_to_the_very_edge():
    x = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(1))
    gradients = sobel(x).unflatten(1, (3, 2))
    for b, c in np.ndindex(2, 3):
        for direction, axis in enumerate((1, 0)):
            expected = ndimage.sobel(x[b, c].numpy(), axis, mode="nearest")
            np.testing.assert_allclose(gradients[b, c, direction], expected, atol=1e-5)


def test_dice_by_hand():
    # Foreground class: probabilities 0.5, 1, 0, 0 on truth 1, 1, 0, 0: overlap 1.5, sums 1.5 + 2.
    foreground = torch.tensor([[0.5, 1.0], [0.0, 0.0]])
    truth = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    probabilities = torch.stack((1 - foreground, foreground))[None]
    target = torch.stack((1 - truth, truth))[None]
    assert dice_loss(probabilities, target).item() == pytest.approx(1 - (2 * 1.5 + 1) / (1.5 + 2 + 1))
    assert dice_loss(probabilities, target, smooth=0.0).item() == pytest.approx(1 - 3 / 3.5)


def test_dice_sums_over_the_batch_and_leaves_out_the_background():
    logits, labels = random_case()
    probabilities, target = logits.softmax(1), channels(labels, 4)
    p, t = probabilities.numpy(), target.numpy()
    scores = [(2 * (p[:, c] * t[:, c]).sum() + 1) / (p[:, c].sum() + t[:, c].sum() + 1) for c in (1, 2, 3)]
    assert dice_loss(probabilities, target).item() == pytest.approx(1 - np.mean(scores), rel=1e-5)


def test_a_class_that_is_neither_there_nor_predicted_costs_nothing():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[:, 2:5, 2:5] = 1
    target = channels(labels, 4)
    assert dice_loss(target, target).item() == pytest.approx(0, abs=1e-6)


def test_boundary_loss_is_equation_15():
    for size in ((16, 12), (11, 9)):
        logits, labels = random_case(3, size=size)
        probabilities, target = logits.softmax(1), channels(labels, 4)
        expected = boundary_by_hand(probabilities, target)
        assert boundary_loss(probabilities, target).item() == pytest.approx(expected, rel=1e-4)


def test_boundary_loss_is_zero_for_the_truth_and_positive_otherwise():
    _, labels = random_case(4)
    target = channels(labels, 4)
    assert boundary_loss(target, target).item() == 0
    wrong = channels((labels + 1) % 4, 4)
    assert boundary_loss(wrong, target).item() > 0


def test_coarser_scales_penalise_an_edge_more_the_further_it_is_off():
    def edge(column):
        labels = torch.zeros(1, 32, 48, dtype=torch.int64)
        labels[:, :, column:] = 1
        return channels(labels, 2)

    def losses(scales):
        return [boundary_loss(edge(16 + d), edge(16), scales).item() for d in (0, 1, 2, 4, 8)]

    fine, coarse = losses((1,)), losses((1, 2, 4))
    assert fine[2] == fine[3] == fine[4]  # beside each other or far apart: one scale cannot tell
    assert coarse == sorted(coarse) and len(set(coarse)) == len(coarse)


def test_total_is_the_weighted_sum_of_the_paper():
    logits, labels = random_case(5)
    x = logits.numpy().astype(np.float64)
    softmax = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    entropy = -np.log(np.take_along_axis(softmax, labels.numpy()[:, None], 1)).mean()
    probabilities, target = logits.softmax(1), channels(labels, 4)
    dice, boundary = dice_loss(probabilities, target).item(), boundary_by_hand(probabilities, target)
    assert din_loss(logits, labels).item() == pytest.approx(0.3 * entropy + 0.7 * dice + boundary, rel=1e-4)
    without = din_loss(logits, labels, boundary_weight=0.0).item()
    assert without == pytest.approx(0.3 * entropy + 0.7 * dice, rel=1e-5)
    half = din_loss(logits, labels, boundary_weight=0.5).item()
    assert half == pytest.approx(without + 0.5 * boundary, rel=1e-4)


def test_a_certain_and_right_prediction_costs_almost_nothing():
    _, labels = random_case(6)
    assert din_loss(40 * channels(labels, 4), labels).item() < 1e-4


def test_half_precision_logits_are_judged_in_single_precision():
    logits, labels = random_case(7)
    rounded = logits.bfloat16()
    loss = din_loss(rounded, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == din_loss(rounded.float(), labels).item()


@pytest.mark.parametrize("boundary_weight", [0.0, 1.0])
def test_following_the_gradient_finds_the_labels(boundary_weight):
    logits, labels = random_case(8, batch=1)
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    losses = []
    for _ in range(40):
        loss = din_loss(logits, labels, boundary_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[5] > losses[-1] and losses[-1] < 0.3 * losses[0]
    assert (logits.argmax(1) == labels).float().mean() > 0.99
