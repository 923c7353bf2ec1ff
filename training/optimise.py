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

    Raises RuntimeError at the first step if no gradient reaches some of the weights: a network of which a part stands
    still learns all the same, only badly, so that nobody would notice. (torch 2.13's compiler does this to the UNet.)
    """

    def __init__(self, module: nn.Module, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.01) -> None:
        named = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self._names, self._weights = [*named], [*named.values()]
        self.masters = [weight.detach().float().clone() for weight in self._weights]
        self._adam = torch.optim.AdamW(self.masters, betas=betas, weight_decay=weight_decay, fused=True)

    def step(self, loss: Tensor, rate: float) -> None:
        """Follow the loss's gradient, with this learning rate."""
        loss.backward()
        if not self._adam.state:
            self._reached()
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

    def _reached(self) -> None:
        pairs = zip(self._names, self._weights, strict=True)
        if still := [name for name, weight in pairs if weight.grad is None or not weight.grad.any()]:
            raise RuntimeError(
                f"No gradient reaches {len(still)} of {len(self._names)} weights: {', '.join(still[:5])}…"
            )

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
        return state | dict(zip(self._names, self.masters, strict=True))
