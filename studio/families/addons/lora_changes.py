"""What a LoRA and its kin add to what a layer gives: each kind as a small piece of arithmetic beside the weights.

LoRA: Hu et al., arXiv:2106.09685. DoRA: Liu et al., arXiv:2402.09353. LoHa, LoKr and full differences: Yeh et al.,
arXiv:2309.14859, with the scales of https://github.com/KohakuBlueleaf/LyCORIS.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, ...]
ANY = -1


class Change(ABC):
    """What is added to what a layer gives. scale: a factor on it, beside the weight in the prompt."""

    scale: float

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Of the weights that it stands for: (out, in), (out, in, kernel…), or (channels,) of a norm; ANY fits all."""

    @abstractmethod
    def added(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor:
        """What is added, before `scale`. x: what the layer was given. given: what it gave by itself."""

    def weight(self) -> Tensor:
        """What it adds to the layer's weights, before `scale`: float32, of `shape`.

        Raises ValueError where that depends on these weights.
        """
        raise ValueError("it has lengths for what depends on the model's own weights")

    @abstractmethod
    def rows(self, start: int, stop: int) -> "Change":
        """The part of it that changes these channels of what the layer gives."""

    def turned(self) -> "Change":
        """The same with the two halves of what the layer gives exchanged."""
        raise ValueError("its halves cannot be exchanged")

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        values = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        moved = {name: each.to(device, dtype) for name, each in values.items() if isinstance(each, Tensor | Change)}
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class LowRank(Change):
    """down: (rank, in, kernel…). up: (out, rank). bias: (out,), which is scaled like the rest."""

    down: Tensor
    up: Tensor
    scale: float = 1.0
    bias: Tensor | None = None

    @property
    def shape(self) -> Shape:
        return (self.up.shape[0], *self.down.shape[1:])

    def added(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor:
        up, bias = _as(x, self.up), _as(x, self.bias)
        narrow = _through(layer, x, _as(x, self.down))
        return functional.conv2d(narrow, up[..., None, None], bias) if x.ndim == 4 and self.down.ndim == 4 else (
            functional.linear(narrow, up, bias)
        )  # fmt: skip

    def weight(self) -> Tensor:
        return torch.tensordot(self.up.float(), self.down.float(), 1)

    def rows(self, start: int, stop: int) -> "LowRank":
        return replace(self, up=self.up[start:stop], bias=None if self.bias is None else self.bias[start:stop])

    def turned(self) -> "LowRank":
        return replace(self, up=_turned(self.up), bias=_turned(self.bias))


@dataclass(frozen=True, eq=False)
class Whole(Change):
    """A difference for every weight of a layer, a norm's among them. bias: for its bias."""

    difference: Tensor | None
    scale: float = 1.0
    bias: Tensor | None = None

    @property
    def shape(self) -> Shape:
        return tuple((self.bias if self.difference is None else self.difference).shape)  # type: ignore[union-attr]

    def added(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor:
        bias = _as(x, self.bias)
        if self.difference is None:
            assert bias is not None
            return bias[:, None, None] if isinstance(layer, nn.Conv2d | nn.GroupNorm) and given.ndim == 4 else bias
        return _through(layer, x, _as(x, self.difference), bias)

    def weight(self) -> Tensor:
        assert self.difference is not None
        return self.difference.float()

    def rows(self, start: int, stop: int) -> "Whole":
        difference, bias = (None if each is None else each[start:stop] for each in (self.difference, self.bias))
        return replace(self, difference=difference, bias=bias)

    def turned(self) -> "Whole":
        return replace(self, difference=_turned(self.difference), bias=_turned(self.bias))


@dataclass(frozen=True, eq=False)
class Kronecker(Change):
    """The Kronecker product of left (a, b) and right (c, d), for layers that read b·d and give a·c numbers."""

    left: Tensor
    right: Tensor
    scale: float = 1.0

    @property
    def shape(self) -> Shape:
        return (self.left.shape[0] * self.right.shape[0], self.left.shape[1] * self.right.shape[1])

    def added(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor:
        # (l ⊗ r) x = l X rᵀ, where X is x in b lines of d: never as large as the product.
        lines = x.unflatten(-1, (self.left.shape[1], self.right.shape[1]))
        return (_as(x, self.left) @ functional.linear(lines, _as(x, self.right))).flatten(-2)

    def weight(self) -> Tensor:
        return torch.kron(self.left.float(), self.right.float())

    def rows(self, start: int, stop: int) -> Change:
        return Part(self, slice(start, stop), self.scale)

    def turned(self) -> Change:
        return Whole(_turned(self.weight()), self.scale)


@dataclass(frozen=True, eq=False)
class Part(Change):
    """Some channels of a change that cannot be cut itself."""

    of: Change
    channels: slice
    scale: float = 1.0

    @property
    def shape(self) -> Shape:
        return (self.channels.stop - self.channels.start, *self.of.shape[1:])

    def added(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor:
        return self.of.added(layer, x, given)[..., self.channels]

    def weight(self) -> Tensor:
        return self.of.weight()[self.channels]

    def rows(self, start: int, stop: int) -> Change:
        first = self.channels.start
        return replace(self, channels=slice(first + start, first + stop))


@dataclass(frozen=True, eq=False)
class Scaled(Change):
    """A factor for each channel that a layer reads or gives, and a direction that is added before: DoRA and IA³.

    of DoRA the direction is ΔW, and the factor gives each channel of W + ΔW a length of its own; IA³ has none. At a
    weight other than 1 in the prompt, that share of the way is gone. for_read: which channels the factor is for.
    """

    factor: Tensor
    for_read: bool
    direction: Change | None = None
    scale: float = field(default=1.0, init=False)

    @property
    def shape(self) -> Shape:
        if self.direction:
            return self.direction.shape
        return (ANY, len(self.factor)) if self.for_read else (len(self.factor), ANY)

    def added(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor:
        factor = _across(_as(x, self.factor), layer)
        if self.for_read:
            # The layer's own forward brings its weights here, wherever they are kept.
            own = _without_bias(layer, layer.forward(x * (factor - 1)))
            return own + self._turn(layer, x * factor, given)
        return (factor - 1) * _without_bias(layer, given) + factor * self._turn(layer, x, given)

    def _turn(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor | float:
        return self.direction.scale * self.direction.added(layer, x, given) if self.direction else 0.0

    def rows(self, start: int, stop: int) -> "Scaled":
        return self if self.for_read else replace(self, factor=self.factor[start:stop])

    def turned(self) -> "Scaled":
        return self if self.for_read else replace(self, factor=_turned(self.factor))


@dataclass(frozen=True, eq=False)
class Rotated(Change):
    """OFT: what a layer gives, in blocks, each turned. turn: (blocks, n, n), the rotations less the identity.

    lengths: (blocks · n,), a factor for each channel afterwards, or None.
    """

    turn: Tensor
    lengths: Tensor | None = None
    scale: float = 1.0

    @property
    def shape(self) -> Shape:
        return (self.turn.shape[0] * self.turn.shape[1], ANY)

    def added(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor:
        channel = 1 if isinstance(layer, nn.Conv2d) else -1
        own = _without_bias(layer, given).movedim(channel, -1)
        turned = torch.einsum("knm,...kn->...km", _as(x, self.turn), own.unflatten(-1, self.turn.shape[:2])).flatten(-2)
        if self.lengths is not None:
            turned = _as(x, self.lengths) * (turned + own) - own
        return turned.movedim(-1, channel)

    def rows(self, start: int, stop: int) -> "Rotated":
        size = self.turn.shape[1]
        if start % size or stop % size:
            raise ValueError("it turns blocks that are divided here")
        lengths = None if self.lengths is None else self.lengths[start:stop]
        return replace(self, turn=self.turn[start // size : stop // size], lengths=lengths)


@dataclass(frozen=True, eq=False)
class Generalised(Change):
    """GLoRA (Chavan et al., arXiv:2306.07967): W A + B, where A and B are LoRAs. For linear layers."""

    before: LowRank
    beside: LowRank
    scale: float = 1.0

    @property
    def shape(self) -> Shape:
        return self.beside.shape

    def added(self, layer: nn.Module, x: Tensor, given: Tensor) -> Tensor:
        read = self.before.added(layer, x, given)
        return _without_bias(layer, layer.forward(read)) + self.beside.added(layer, x, given)

    def rows(self, start: int, stop: int) -> "Generalised":
        return replace(self, beside=self.beside.rows(start, stop))


def decomposed(change: Change, lengths: Tensor, weights: Tensor) -> Scaled:
    """DoRA of a layer with these weights. lengths: (out,), (out, 1…) or (1, in, 1…), as trainers write them.

    Raises ValueError where these are of neither shape.
    """
    changed = weights.float() + change.scale * change.weight().to(weights.device)
    per_read = lengths.ndim > 1 and lengths.shape[0] == 1 and lengths.shape[1] == changed.shape[1]
    axis = 1 if per_read else 0
    if lengths.numel() != changed.shape[axis]:
        raise ValueError("its lengths are as many as no channels of the layer")
    norms = changed.transpose(0, axis).flatten(1).norm(dim=1)
    factor = lengths.flatten().float() / norms.clamp_min(torch.finfo(torch.float32).tiny)
    return Scaled(factor, per_read, change)


def _turned(value: Any) -> Any:
    return value if value is None else value.roll(len(value) // 2, 0)


def _as(x: Tensor, value: Any) -> Any:
    """A change's tensor where and as the layer computes. None stays None."""
    return value if value is None else value.to(x.device, x.dtype)


def _across(factor: Tensor, layer: nn.Module) -> Tensor:
    return factor[:, None, None] if isinstance(layer, nn.Conv2d) else factor


def _without_bias(layer: nn.Module, given: Tensor) -> Tensor:
    bias = getattr(layer, "bias", None)
    return given if bias is None else given - _across(bias.to(given.device, given.dtype), layer)


def _through(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What a layer of this kind makes of x with other weights."""
    if isinstance(layer, nn.Conv2d):
        return functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    if isinstance(layer, nn.GroupNorm):
        return functional.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    return functional.linear(x, weight, bias)


# From the tensors of a file


def made(found: Mapping[str, Tensor], told_scale: Callable[[int], float]) -> Change:
    """The change that the tensors of one layer stand for, lengths of a DoRA apart. Raises ValueError with a reason.

    found: role (`files.identity.loras.layers`) → tensor. told_scale: by the rank, where a tensor alpha says nothing.
    """
    roles = found.keys() - {"alpha", "dora_scale"}
    alpha = float(found["alpha"]) if "alpha" in found else None

    def scale(rank: int) -> float:
        return told_scale(rank) if alpha is None else alpha / rank

    for needed, known, make in _MAKERS:
        if needed <= roles:
            if roles > known:
                raise ValueError(
                    f"it has tensors of a kind that is not known here ({', '.join(sorted(roles - known))})"
                )
            return make(found, scale)
    raise ValueError(f"tensors are missing beside {', '.join(sorted(roles)) or 'alpha'}")


Scale = Callable[[int], float]


def _plain(found: Mapping[str, Tensor], scale: Scale) -> Change:
    down, up = found["down"], found["up"].flatten(1)
    if up.shape[1] != down.shape[0] and "mid" not in found:
        raise ValueError("its two matrices do not fit together")
    factor = scale(down.shape[0])
    if "mid" in found:
        # A convolution in three: (rank, in, 1, 1), the core (rank, rank, k, k), (out, rank, 1, 1).
        return Whole(torch.einsum("op,pqkl,qi->oikl", up, found["mid"], down.flatten(1)), factor)
    return LowRank(down, up, factor, found.get("up.bias"))


def _whole(found: Mapping[str, Tensor], scale: Scale) -> Change:
    return Whole(
        found.get("diff", found.get("w_norm")),
        bias=found.get("diff_b", found.get("b_norm")),
    )


def _hadamard(found: Mapping[str, Tensor], scale: Scale) -> Change:
    """LoHa: (w1_a w1_b) ∘ (w2_a w2_b), which is of rank r² at most: its columns are all products of two of theirs."""
    (a1, b1), (a2, b2) = ((found[f"hada_w{each}_a"], found[f"hada_w{each}_b"]) for each in (1, 2))
    factor = scale(b1.shape[0])
    if "hada_t1" in found:
        one, two = (
            torch.einsum("pqkl,po,qi->oikl", found[f"hada_t{each}"], a, b) for each, a, b in ((1, a1, b1), (2, a2, b2))
        )
        return Whole(one * two, factor)
    out, rank, read = a1.shape[0], b1.shape[0] * b2.shape[0], b1.shape[1]
    if rank * (out + read) >= out * read:
        return Whole((a1 @ b1) * (a2 @ b2), factor)
    up = (a1[:, :, None] * a2[:, None, :]).flatten(1)
    return LowRank((b1[:, None] * b2[None]).flatten(0, 1), up, factor)


def _kronecker(found: Mapping[str, Tensor], scale: Scale) -> Change:
    """LoKr: either matrix may be a product itself. With none that is, there is no rank, and alpha means nothing."""
    left, right = (_factor(found, name) for name in ("lokr_w1", "lokr_w2"))
    ranks = [found[f"{name}_b"].shape[0] for name in ("lokr_w2", "lokr_w1") if f"{name}_b" in found]
    factor = scale(ranks[0]) if ranks else 1.0
    if right.ndim == 2:
        return Kronecker(left, right, factor)
    return Whole(torch.kron(left.reshape(*left.shape, *(1,) * (right.ndim - 2)), right), factor)


def _factor(found: Mapping[str, Tensor], name: str) -> Tensor:
    if name in found:
        return found[name]
    one, two = found[f"{name}_a"], found[f"{name}_b"]
    if name == "lokr_w2" and "lokr_t2" in found:
        return torch.einsum("pqkl,po,qi->oikl", found["lokr_t2"], one, two)
    return (one @ two.flatten(1)).unflatten(1, two.shape[1:]) if two.ndim > 2 else one @ two


def _rotated(found: Mapping[str, Tensor], scale: Scale) -> Change:
    """Each block a rotation by Cayley's transform of an antisymmetric matrix, whose norm alpha bounds."""
    blocks = found["oft_blocks"].float()
    if blocks.ndim != 3 or blocks.shape[1] != blocks.shape[2]:
        raise ValueError("its blocks are not those of an OFT")
    odd, one = blocks - blocks.transpose(1, 2), torch.eye(blocks.shape[1])
    most = float(found.get("alpha", 0.0)) * blocks.shape[0] * blocks.shape[1]
    if most > 0 and (norm := float(odd.norm()) + 1e-8) > most:
        odd = odd * (most / norm)
    lengths = found.get("rescale")
    turn = torch.linalg.solve(one - odd, one + odd, left=False) - one
    return Rotated(turn, None if lengths is None else lengths.flatten())


def _generalised(found: Mapping[str, Tensor], scale: Scale) -> Change:
    """Trainers have called the narrow ends of these matrices 1 and 2 either way round."""
    a, b = ([found[f"{name}{end}"] for end in (1, 2)] for name in "ab")
    if a[0].ndim != 2:
        raise ValueError("it is a GLoRA of a convolution")
    if a[0].shape[0] > a[0].shape[1]:
        a, b = a[::-1], b[::-1]
    return Generalised(LowRank(a[0], a[1]), LowRank(b[0], b[1]), scale(a[0].shape[0]))


def _factors(found: Mapping[str, Tensor], scale: Scale) -> Change:
    return Scaled(1 + found["ia3"].flatten(), bool(found["on_input"]))


_LOKR = frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"})
_GLORA = frozenset({"a1", "a2", "b1", "b2"})
_LOHA = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
_MAKERS: tuple[tuple[frozenset[str], frozenset[str], Callable[[Mapping[str, Tensor], Scale], Change]], ...] = (
    (frozenset({"down", "up"}), frozenset({"down", "up", "mid", "up.bias"}), _plain),
    (_LOHA, _LOHA | {"hada_t1", "hada_t2"}, _hadamard),
    *(
        (frozenset({*one, *two}), _LOKR, _kronecker)
        for one in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for two in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    ),
    *((frozenset({one}), frozenset({"diff", "diff_b"}), _whole) for one in ("diff", "diff_b")),
    (frozenset({"oft_blocks"}), frozenset({"oft_blocks", "rescale"}), _rotated),
    (_GLORA, _GLORA, _generalised),
    (frozenset({"ia3", "on_input"}), frozenset({"ia3", "on_input"}), _factors),
    *((frozenset({one}), frozenset({"w_norm", "b_norm"}), _whole) for one in ("w_norm", "b_norm")),
)
"""The roles that a kind needs, those that it may have, and what makes a change of them."""


def fitted(change: Change, shape: Shape) -> Change:
    """The change for weights of this shape: trainers write some convolutions as matrices, and the reverse.

    Raises ValueError if it is of another shape.
    """
    was = change.shape
    if was == shape or (ANY in was and all(a in (ANY, b) for a, b in zip(was, shape, strict=False))):
        return change
    if was[0] == shape[0] and math.prod(was) == math.prod(shape):
        if isinstance(change, LowRank):
            return replace(change, down=change.down.reshape(-1, *shape[1:]))
        if isinstance(change, Whole | Kronecker):
            return Whole(change.weight().reshape(shape), change.scale, getattr(change, "bias", None))
    if isinstance(change, Whole) and change.difference is None and was[0] == shape[0]:
        return change
    here, there = (" x ".join(str(side) for side in each if side != ANY) for each in (shape, was))
    raise ValueError(f"it is made for weights of {there}, and these are of {here}")
