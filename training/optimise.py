"""What both trainings share: where they run, and the optimiser, for weights that compute in bfloat16."""

import atexit

import torch
import torch.distributed as dist
from torch import Tensor, nn


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def together() -> None:
    """Join the other processes, where `torchrun` started several, until this one ends."""
    if dist.is_torchelastic_launched():
        dist.init_process_group()
        atexit.register(dist.destroy_process_group)


def rank() -> int:
    """Which of the processes that train together this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def leads() -> bool:
    """Whether this process writes checkpoints: where several train together, the first."""
    return rank() == 0


def slowest(share: float) -> float:
    """The largest of this value among the processes that train together, which so agree on where they are."""
    if dist.is_initialized():
        shares = torch.tensor(share, device=device())
        dist.all_reduce(shares, dist.ReduceOp.MAX)
        share = shares.item()
    return share


def average(mean: nn.Module, weights: list[Tensor], keep: float) -> None:
    """Move the mean's float32 weights towards the present ones."""
    with torch.no_grad():
        torch._foreach_lerp_(list(mean.parameters()), weights, 1 - keep)


class Optimiser:
    """Muon on the matrices inside a network, AdamW on all its other weights, both at one learning rate.

    Muon (Jordan, kellerjordan.github.io/posts/muon) lets all directions of a matrix learn equally fast; a convolution
    is one matrix, of all that a place sees. Its steps are made as long as AdamW's (Liu et al., arXiv:2502.16982).

    Keeps float32 copies (`masters`) of bfloat16 weights: a bfloat16 number has no room for a small step. Gradients are
    clipped to a norm of 1. Where several processes train together (`torchrun`), each follows the mean of their
    gradients, works out Muon's step for its part of the matrices, and sends it to the others.

    Raises RuntimeError at the first step if no gradient reaches some of the weights: a network of which a part stands
    still learns all the same, only badly, so that nobody would notice. (torch 2.13's compiler does this to the UNet.)
    """

    def __init__(self, module: nn.Module, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.01) -> None:
        named = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self._names, self._weights = [*named], [*named.values()]
        self.masters = [weight.detach().float().clone() for weight in self._weights]
        tables = {id(table.weight) for table in module.modules() if isinstance(table, nn.Embedding)}
        inside = [id(weight) not in tables and _is_matrix(weight) for weight in self._weights]
        self._learnt = [_matrix(each) if within else each for each, within in zip(self.masters, inside, strict=True)]
        others = [each for each, within in zip(self._learnt, inside, strict=True) if not within]
        matrices = [each for each, within in zip(self._learnt, inside, strict=True) if within]
        matrices.sort(key=lambda matrix: matrix.numel() * min(matrix.shape))
        world = dist.get_world_size() if dist.is_initialized() else 1
        self._parts = [matrices[number::world] for number in range(world)]
        self._rules: list[torch.optim.Optimizer] = []
        if others:
            self._rules.append(torch.optim.AdamW(others, betas=betas, weight_decay=weight_decay, fused=True))
        if mine := self._parts[rank()]:
            self._rules.append(torch.optim.Muon(mine, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))

    def step(self, loss: Tensor, rate: float) -> None:
        """Follow the loss's gradient, with this learning rate."""
        loss.backward()
        if not any(rule.state for rule in self._rules):
            self._reached()
        if dist.is_initialized():
            self._share_gradients()
        for weight, master, learnt in zip(self._weights, self.masters, self._learnt, strict=True):
            gradient = torch.empty_like(master).copy_(weight.grad)
            learnt.grad = gradient if learnt is master else _matrix(gradient)
            weight.grad = None
        nn.utils.clip_grad_norm_(self._learnt, 1.0)
        for rule in self._rules:
            for group in rule.param_groups:
                group["lr"] = rate
            rule.step()
        if dist.is_initialized():
            self._share_matrices()
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self.masters)

    def _reached(self) -> None:
        pairs = zip(self._names, self._weights, strict=True)
        if still := [name for name, weight in pairs if weight.grad is None or not weight.grad.any()]:
            raise RuntimeError(
                f"No gradient reaches {len(still)} of {len(self._names)} weights: {', '.join(still[:5])}…"
            )

    def _share_gradients(self) -> None:
        gradients = [weight.grad for weight in self._weights]
        together = _joined(gradients)
        dist.all_reduce(together)
        _part(together / dist.get_world_size(), gradients)

    def _share_matrices(self) -> None:
        for source, part in enumerate(self._parts):
            if not part:
                continue
            numbers = _joined(part)
            dist.broadcast(numbers, source)
            if source != rank():
                _part(numbers, part)

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's weights in float32, the trained ones as they really are."""
        state = {name: value.float() for name, value in module.state_dict().items()}
        return state | dict(zip(self._names, self.masters, strict=True))


def _joined(tensors: list[Tensor]) -> Tensor:
    """All numbers in one row, to be sent at once."""
    return torch.cat([each.flatten() for each in tensors])


def _part(together: Tensor, tensors: list[Tensor]) -> None:
    """Copy such a row into the tensors that it was made of."""
    for tensor, numbers in zip(tensors, together.split([each.numel() for each in tensors]), strict=True):
        tensor.copy_(numbers.view_as(tensor))


def _is_matrix(weight: Tensor) -> bool:
    """Whether Muon suits it: of vectors, and of matrices that lead to a few numbers or from them, it knows nothing."""
    return weight.dim() > 1 and min(len(weight), weight[0].numel()) > 32


def _matrix(weight: Tensor) -> Tensor:
    """A weight's memory as one row for each output, (rows, columns), whichever order the columns lie in."""
    columns = weight[0].numel()
    return weight.as_strided((len(weight), columns), (columns, 1))
