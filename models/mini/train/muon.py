"""Muon for matrices: each step is the momentum made orthogonal by five Newton-Schulz iterations.

Keller Jordan's method, with Moonshot's scaling (Liu et al. 2025, "Muon is Scalable for LLM Training"), so that
one rate serves it and AdamW. Embeddings and vectors are not for it.
"""

import torch

# The quintic that drives singular values towards 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Root mean square of AdamW's usual step.
STEP_RMS = 0.2


def orthogonal(matrices):
    """The nearest orthogonal matrices, roughly; takes a stack of one shape."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    found = matrices.mT if tall else matrices
    found = found / (found.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return found.mT if tall else found


class Muon(torch.optim.Optimizer):
    def __init__(self, matrices, lr, momentum=0.95, weight_decay=0.1):
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for one in group["params"]:
                shapes.setdefault(one.shape, []).append(one)
            for shape, alike in shapes.items():
                steps = orthogonal(torch.stack([self.moved(one, group["momentum"]) for one in alike]))
                scale = group["lr"] * STEP_RMS * max(shape) ** 0.5
                for one, by in zip(alike, steps):
                    one.mul_(1 - group["lr"] * group["weight_decay"]).add_(by, alpha=-scale)

    def moved(self, one, momentum):
        """Nesterov's momentum."""
        kept = self.state[one].setdefault("momentum", torch.zeros_like(one))
        kept.mul_(momentum).add_(one.grad, alpha=1 - momentum)
        return one.grad.lerp(kept, momentum)
