"""Global response normalisation (ConvNeXt V2, arXiv 2301.00808, section 4 and Algorithm 1).

B batch, C channels, H W space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GRN(nn.Module):
    """GRN over (B, H, W, C): scales each channel by its L2 norm over space, relative to the mean over channels.

    Sums of squares of half-precision activations are float32: in float16 they would overflow. `gamma` and `beta` start
    at zero (the identity) and get no weight decay.
    """

    def __init__(self, dim: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)  # float64 stays float64
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=wide)
        response = energy / (energy.mean(dim=-1, keepdim=True) + self.eps)
        # gamma * (x * response) + beta + x, in one pass less over x.
        scale = (1 + self.gamma.to(wide) * response).to(x.dtype)
        return torch.addcmul(self.beta.to(x.dtype), x, scale)

    def extra_repr(self) -> str:
        return f"{self.gamma.shape[-1]}, eps={self.eps}"
