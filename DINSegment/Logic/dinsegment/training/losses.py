"""The losses of DIN (paper, section 3.2 and section 10, eq. 15) and of GRCSF."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])


def dice_loss(probabilities: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, mean over the foreground classes; sums run over the batch, so an absent class costs little.

    Where several processes share a batch, the sums run over all of it.

    Args:
        probabilities: (B, classes, H, W), softmax.
        target: (B, classes, H, W), one-hot.
        smooth: Added above and below.
    """
    dims = (0, 2, 3)
    overlap = (probabilities * target).sum(dims)
    total = probabilities.sum(dims) + target.sum(dims)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # Its gradient is summed over processes too, and DDP takes the mean: together that is the whole batch's.
        overlap, total = all_reduce(torch.stack((overlap, total)))
    return 1.0 - ((2.0 * overlap + smooth) / (total + smooth))[1:].mean()


def sobel(x: Tensor) -> Tensor:
    """Horizontal and vertical Sobel gradients of every class, (B, C, H, W) -> (B, 2C, H, W); edges are replicated."""
    kernels = torch.stack((SOBEL, SOBEL.T)).to(x).unsqueeze(1).repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernels, groups=x.shape[1])


def boundary_loss(probabilities: Tensor, target: Tensor, scales: tuple[int, ...] = (1, 2, 4)) -> Tensor:
    """L_bnd = sum over i of | G(avgpool_i(softmax(x))) - G(avgpool_i(onehot(y))) |_1 (eq. 15).

    The norm is taken as a mean over pixels, classes and directions: the paper does not say, and a sum would drown the
    other two terms. G is linear, so the difference is pooled and filtered once.
    """
    difference = probabilities - target
    return sum(sobel(F.avg_pool2d(difference, i)).abs().mean() for i in scales)


def din_loss(logits: Tensor, labels: Tensor, boundary_weight: float = 1.0) -> Tensor:
    """L = 0.3 CE + 0.7 Dice + L_bnd (section 3.2).

    Args:
        logits: (B, classes, H, W).
        labels: (B, H, W), int64.
        boundary_weight: Factor of L_bnd; 1 in the paper, 0 leaves it out (table 3).
    """
    logits = logits.float()
    probabilities = logits.softmax(1)
    target = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).to(logits)
    loss = 0.3 * F.cross_entropy(logits, labels) + 0.7 * dice_loss(probabilities, target)
    return loss + boundary_weight * boundary_loss(probabilities, target) if boundary_weight else loss


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean over pixels of -(1 - p)^gamma log p, p the probability of the right class (T.-Y. Lin et al., ICCV 2017).

    Args:
        logits: (B, classes, H, W).
        labels: (B, H, W), int64.
        gamma: 0 is the cross entropy.
    """
    log_p = logits.float().log_softmax(1).gather(1, labels[:, None])
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def dice_focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice and focal loss, added (GRCSF, for stroke lesions); arguments as `focal_loss`."""
    target = F.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).float()
    return dice_loss(logits.float().softmax(1), target) + focal_loss(logits, labels)
