"""That Muon's steps are orthogonal, for wide and for tall matrices."""

import unittest

try:
    import torch
except ImportError:
    torch = None


@unittest.skipIf(torch is None, "torch is not installed")
class Steps(unittest.TestCase):
    def test_singular_values_come_near_one(self):
        from muon import orthogonal

        torch.manual_seed(0)
        for shape in [(3, 48, 96), (2, 96, 48), (1, 64, 64)]:
            values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
            # Its quintic does not converge: it leaves values between about 0.7 and 1.2, small ones below.
            self.assertLess(float(values.max()), 1.3)
            self.assertGreater(float(values.median()), 0.6)

    def test_a_step_goes_down(self):
        from muon import Muon

        torch.manual_seed(0)
        matrix = torch.nn.Parameter(torch.randn(8, 8))
        aim, optimizer = torch.randn(8, 8), Muon([matrix], 0.05, weight_decay=0.0)
        losses = []
        for _ in range(200):
            loss = (matrix - aim).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        self.assertLess(losses[-1], losses[0] / 10)


if __name__ == "__main__":
    unittest.main()
