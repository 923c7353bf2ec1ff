"""What both trainings share: where they run, and AdamW on weights that compute in bfloat16."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Optimiser:
    """AdamW that keeps float32 copies (`masters`) of bfloat16 weights: a bfloat16 number has no room for a small step.

    Gradients are clipped to a norm of 1. Where several processes train together (`torchrun`), each follows the mean of
    their gradients, so that the weights stay the same in all.
    """

    def __init__(self, module: nn.Module, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.01) -> None:
        self._weights = [weight for weight in module.parameters() if weight.requires_grad]
        self.masters = [weight.detach().float().clone() for weight in self._weights]
        self._adam = torch.optim.AdamW(self.masters, betas=betas, weight_decay=weight_decay, fused=True)

    def step(self, loss: Tensor, rate: float) -> None:
        """Follow the loss's gradient, with this learning rate."""
        loss.backward()
        if dist.is_initialized():
            self._share_gradients()
        for weight, master in zip(self._weights, self.masters, strict=True):
            master.grad = weight.grad.float() if weight.grad is not None else None
            weight.grad = None
        nn.utils.clip_grad_norm_(self.masters, 1.0)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self.masters)

    def _share_gradients(self) -> None:
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(together)
        together /= dist.get_world_size()
        for gradient, mean in zip(gradients, together.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's weights in float32, the trained ones as they really are."""
        state = {name: value.float() for name, value in module.state_dict().items()}
        names = (name for name, weight in module.named_parameters() if weight.requires_grad)
        return state | dict(zip(names, self.masters, strict=True))
