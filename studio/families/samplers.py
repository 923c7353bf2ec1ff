"""Samplers: labels of a solver and of a schedule → a diffusers scheduler, built fresh for each job.

A scheduler of diffusers keeps its place and its history in itself, so each job has its own. `Sampler` wraps one with
what the engine's loop asks: what to feed the model, what the model's answer says of the clean picture, and the next
latents; and, for changes on the way, which noise the latents hold. All tensors have one row: (1, channels, height/8,
width/8), float32.
"""

import copy
import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from studio.compat import of_diffusers
from studio.errors import RecipeError
from studio.recipe import schedules
from studio.recipe.recipe import AS_PUBLISHED, AUTOMATIC
from studio.recipe.schedules import SCHEDULES

_DPM_2M = ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"})

DIFFUSION: dict[str, tuple[str, dict[str, Any]]] = {
    "DPM++ 2M": _DPM_2M,
    "DPM++ 2M Karras": (_DPM_2M[0], {**_DPM_2M[1], "use_karras_sigmas": True}),
    "DPM++ 2M SDE": (_DPM_2M[0], {"algorithm_type": "sde-dpmsolver++"}),
    "DPM++ 3M SDE": (_DPM_2M[0], {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    "DPM++ SDE": (
        "DPMSolverSinglestepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "lower_order_final": True},
    ),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "DPM2": ("KDPM2DiscreteScheduler", {}),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "LCM": ("LCMScheduler", {"clip_sample": False}),
}
"""Label → scheduler and its options, for models that predict noise or velocity on a variance-preserving schedule."""

_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}

FLOW: dict[str, tuple[str, dict[str, Any]]] = {
    "Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "DPM++ 2M": (_DPM_2M[0], {**_DPM_2M[1], **_FLOW}),
    "UniPC": ("UniPCMultistepScheduler", _FLOW),
}
"""The same for flow-matching models (Lipman et al., arXiv:2210.02747)."""

_SPACED: dict[str, dict[str, Any]] = {
    "Normal": {"timestep_spacing": "linspace"},
    "Karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    "Exponential": {"timestep_spacing": "linspace", "use_exponential_sigmas": True},
    "Trailing": {"timestep_spacing": "trailing"},
}
"""Schedules of schedulers that stop between two levels too, which they work out themselves."""

_OWN_SCHEDULES: dict[str, dict[str, dict[str, Any]]] = {
    "KDPM2DiscreteScheduler": _SPACED,
    "KDPM2AncestralDiscreteScheduler": _SPACED,
}
"""Schedulers that make their timetable by options alone → what they can make, and by which."""


_STAND_INS = {"DDIMScheduler": "EulerDiscreteScheduler"}
"""What solves a schedule by name instead of a scheduler that takes none: DDIM without fresh noise is Euler's method in
sigma (Song et al., arXiv:2010.02502, section 4.3), which is also what ComfyUI means by DDIM."""

_NAMES = (AUTOMATIC, *SCHEDULES, AS_PUBLISHED)

LEAP = 4.0
"""A sigma that falls to less than its part of so many does so in a step of first order (`Sampler._leaps`)."""


def schedules_of(table: Mapping[str, tuple[str, dict]], label: str) -> tuple[str, ...]:
    """The schedules that go with a sampler, "Automatic" first."""
    kind, options = table[label]
    if not hasattr(diffusers, kind) or kind.startswith("FlowMatch") or "use_flow_sigmas" in options:
        return AUTOMATIC, AS_PUBLISHED  # flow models have one timetable, which shifts with the size
    return AUTOMATIC, *_OWN_SCHEDULES.get(kind, SCHEDULES), AS_PUBLISHED


class Sampler:
    """The timetable of one job and where it stands in it.

    run: how many of the steps are taken, the last ones; the first `steps - run` are left out.
    shift: `mu` of schedules that shift with the picture's size, None for all others.
    spaced: whether a flow model takes evenly spaced sigmas, as most do, or what the scheduler makes of the steps alone.
    schedule: of `schedules_of`; "Automatic" is what the label and the config say.
    Raises RecipeError if this scheduler cannot make so many steps, or does not go with the schedule.
    """

    def __init__(
        self,
        table: Mapping[str, tuple[str, dict]],
        label: str,
        config: Mapping,
        steps: int,
        shift: float | None = None,
        run: int | None = None,
        spaced: bool = True,
        schedule: str = AUTOMATIC,
    ) -> None:
        kind, options = table[label]
        check_schedule(table, label, schedule)
        named = SCHEDULES.get(schedule)
        kind, options = _suited(kind, options, config, steps, schedule)
        self._literal = schedule == AS_PUBLISHED
        # Automatic timetables stay diffusers' own as long as no harm is done.
        self._leaps_above = 0.0 if named else 1.0
        self._scheduler = _build(getattr(diffusers, kind), config, options)
        try:
            # On the CPU, whatever the device: a timestep that lives on a GPU has to be waited for at each step.
            if named and kind not in _OWN_SCHEDULES:
                _lay_out(self._scheduler, named, steps)
            else:
                self._scheduler.set_timesteps(device="cpu", **_timetable(self._scheduler, steps, shift, spaced))
        except (ValueError, IndexError, ZeroDivisionError):
            raise RecipeError(f"The sampler {label} cannot make {steps} steps. Take fewer, or another one.") from None
        self._run = steps if run is None else run
        timesteps: Tensor = self._scheduler.timesteps
        # Where in the scheduler's own lists this timetable begins. Second order means two calls for each step.
        self._first = min((steps - self._run) * getattr(self._scheduler, "order", 1), len(timesteps))
        self._takes_generator = "generator" in inspect.signature(self._scheduler.step).parameters
        self._timesteps = timesteps[self._first :]
        self.go_to(0)
        self._made = dict(of_diffusers.state_of(self._scheduler))

    def go_to(self, step: int) -> None:
        """Stand where so many steps are taken, without having taken them. For a sampler that has taken none."""
        self._calls = step * getattr(self._scheduler, "order", 1)
        if hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self._first + self._calls)

    def copy(self) -> "Sampler":
        """One that goes on from the same place by itself."""
        result = copy.copy(self)
        result._scheduler = of_diffusers.copied(self._scheduler)
        return result

    @property
    def state(self) -> dict[str, Any]:
        """Where it stands and what it remembers: numbers, tensors, and lists of these and of None."""
        now = of_diffusers.state_of(self._scheduler)
        changed = {name: value for name, value in now.items() if value is not self._made.get(name, self)}
        return {"calls": self._calls, "scheduler": changed}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where another one of the same timetable stood. Raises ValueError if it cannot have stood there."""
        calls, values = state["calls"], state["scheduler"]
        if type(calls) is not int or not 0 <= calls <= len(self._timesteps):
            raise ValueError(f"there is no call {calls!r:.20} in this timetable")
        self._calls = calls
        of_diffusers.put_state(self._scheduler, values)

    @property
    def initial_scale(self) -> float:
        """What unit noise is multiplied with to become the first latents."""
        return float(getattr(self._scheduler, "init_noise_sigma", 1.0))

    @property
    def done(self) -> int:
        """Whole steps taken. Samplers of second order call the model twice in a step."""
        return self._calls * self._run // max(len(self._timesteps), 1)

    @property
    def timestep(self) -> Tensor:
        """The model's timestep, a 0-d tensor on the CPU."""
        return self._timesteps[self._calls]

    def model_input(self, latents: Tensor) -> Tensor:
        """Latents as the model wants to see them: of unit variance for all but flow models."""
        if self._calls < len(self._timesteps) and hasattr(self._scheduler, "scale_model_input"):
            return self._scheduler.scale_model_input(latents, self.timestep)
        return latents

    def clean(self, model_input: Tensor, output: Tensor) -> Tensor:
        """The predicted clean latents, from what the model was given and what it answered, before `step`."""
        kind, sigma = self._kind, self._sigma()
        if kind == "flow_prediction":
            return model_input - sigma * output
        # In terms of the noise level, signal and noise are mixed as alpha x0 + beta noise, alpha² + beta² = 1.
        alpha, beta = (sigma**2 + 1) ** -0.5, sigma * (sigma**2 + 1) ** -0.5
        if kind == "v_prediction":
            return alpha * model_input - beta * output
        if kind == "sample":
            return output
        return (model_input - beta * output) / alpha

    def noise_in(self, latents: Tensor, clean: Tensor) -> Tensor:
        """The unit noise that makes up, with these clean latents, the latents at the present call."""
        sigma, model_input = self._sigma(), self.model_input(latents)
        if self._kind == "flow_prediction":
            return (model_input - (1 - sigma) * clean) / sigma
        return ((sigma**2 + 1) ** 0.5 * model_input - clean) / sigma

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Clean latents with as much noise as the latents hold at the present call; after the last one, none."""
        if self._calls >= len(self._timesteps):
            return clean
        if hasattr(self._scheduler, "sigmas_interpol"):  # these do not look at which call it is
            return clean + noise * self._sigma()
        timestep = self.timestep[None].to(clean.device)
        if hasattr(self._scheduler, "scale_noise"):
            return self._scheduler.scale_noise(clean, timestep, noise)
        return self._scheduler.add_noise(clean, noise, timestep)

    def step(self, output: Tensor, latents: Tensor, generator: torch.Generator) -> Tensor:
        """The next latents. Samplers that add noise draw it from the job's own generator, on the CPU."""
        if self._leaps:
            return self._leap(output, latents)
        options = {"generator": generator} if self._takes_generator else {}
        result = self._scheduler.step(output, self.timestep, latents, return_dict=False, **options)[0]
        self._calls += 1
        return result

    @property
    def _leaps(self) -> bool:
        """Whether a solver of second order takes the present step at first order, with one call of the model.

        It corrects a step by what the model says at its end, times how much the level falls. Where almost all noise
        goes at once, as from the pure noise of zero terminal SNR, this tells nothing of the way and drowns the picture.
        """
        if self._literal or getattr(self._scheduler, "order", 1) != 2 or self._calls % 2:
            return False
        now, after = self._scheduler.sigmas[self._first + self._calls :][:2].tolist()
        return now > self._leaps_above and now > LEAP * after > 0

    def _leap(self, output: Tensor, latents: Tensor) -> Tensor:
        """Euler's step to the next level, past the second call."""
        now, after = self._scheduler.sigmas[self._first + self._calls :][:2].tolist()
        clean = self.clean(self.model_input(latents), output)
        self._calls += 2
        of_diffusers.go_on_from(self._scheduler, self._first + self._calls)
        return clean + (latents - clean) * (after / now)

    @property
    def _kind(self) -> str:
        """What the model's answer is: epsilon, v_prediction, sample or flow_prediction."""
        return str(self._scheduler.config.get("prediction_type", "flow_prediction"))

    def _sigma(self) -> Tensor:
        """Noise relative to signal at the present call: sqrt((1 - ā) / ā), or the flow's own sigma."""
        sigmas = getattr(self._scheduler, "sigmas", None)
        if sigmas is not None and len(sigmas) >= len(self._timesteps):
            place = self._first + self._calls
            if (between := getattr(self._scheduler, "sigmas_interpol", None)) is not None and place % 2:
                # The second call of these stands between two levels. Where their list keeps that differs.
                ancestral = isinstance(self._scheduler, diffusers.KDPM2AncestralDiscreteScheduler)
                return between[place - ancestral].float().cpu()
            return sigmas[place].float().cpu()
        signal = self._scheduler.alphas_cumprod[int(self.timestep)].clamp(min=2**-24)
        return ((1 - signal) / signal) ** 0.5


def all_schedules(table: Mapping[str, tuple[str, dict]]) -> list[str]:
    """The schedules that go with any of the samplers."""
    return [*dict.fromkeys(name for name in _NAMES for label in table if name in schedules_of(table, label))]


def check_schedule(table: Mapping[str, tuple[str, dict]], label: str, schedule: str) -> None:
    """Raise RecipeError if this schedule does not go with this sampler."""
    if schedule not in (known := schedules_of(table, label)):
        raise RecipeError(
            f"The sampler {label} does not go with the schedule {schedule[:40]!r}. Choose one of {', '.join(known)}."
        )


def _suited(
    kind: str, options: Mapping[str, Any], config: Mapping, steps: int, schedule: str
) -> tuple[str, dict[str, Any]]:
    """A label's scheduler and options with what its schedule makes of them."""
    options = {**options}
    if schedule == AS_PUBLISHED:
        return kind, options
    if schedule in SCHEDULES:
        kind = _STAND_INS.get(kind, kind)
        options |= {"use_karras_sigmas": False, **_OWN_SCHEDULES.get(kind, {}).get(schedule, {})}
    elif config.get("timestep_spacing", "linspace") == "linspace":
        schedule = "Normal"  # which is the same
    if schedule == "Normal" and options.get("solver_order") == 3:
        options["solver_order"] = 2  # the last step but one falls too far for a third order, which brings noise back
    if steps == 1:
        options["timestep_spacing"] = "trailing"  # the other spacings would begin at the picture's end
    return kind, options


def _lay_out(scheduler: Any, schedule: Any, steps: int) -> None:
    """Give a scheduler this schedule. Raises ValueError if it cannot have so many steps."""
    signal = scheduler.alphas_cumprod.double().numpy().clip(2**-24)
    levels = ((1 - signal) / signal) ** 0.5
    sigmas = schedule(levels, steps)
    if len(np.unique(sigmas)) != steps:
        raise ValueError("two steps at one level")
    times = schedules.timesteps(levels, sigmas)
    if isinstance(scheduler, diffusers.LCMScheduler):  # which knows whole timesteps alone
        return scheduler.set_timesteps(timesteps=[int(each) for each in times.round()], device="cpu")
    scheduler.set_timesteps(steps, device="cpu")
    ends, times = (torch.tensor(each, dtype=torch.float32) for each in ([*sigmas, 0.0], times))
    if getattr(scheduler, "order", 1) == 2:  # each level but the first is where one step ends and another begins
        ends = torch.cat([ends[:1], ends[1:-1].repeat_interleave(2), ends[-1:]])
        times = torch.cat([times[:1], times[1:].repeat_interleave(2)])
    scheduler.sigmas, scheduler.timesteps = ends, times
    return None


def _build(kind: Any, config: Mapping, options: Mapping) -> Any:
    """A scheduler that nobody else has. Those of second order take half a second to make, so they are made once."""
    asked = json.dumps([{**config}, {**options}], sort_keys=True)
    return copy.deepcopy(_prototype(kind, asked))


@lru_cache(64)
def _prototype(kind: Any, asked: str) -> Any:
    config, options = json.loads(asked)
    takes = inspect.signature(kind).parameters
    if config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in takes:
        options = {**options, "trained_betas": zero_terminal_snr_betas(kind, config)}
    if "flow_shift" in takes and "shift" in config:
        # The same number under another name.
        options = {"flow_shift": config["shift"], **options}
    return kind.from_config(config, **options)


def _timetable(scheduler: Any, steps: int, shift: float | None, spaced: bool) -> dict[str, Any]:
    """Arguments for `set_timesteps`. Flow models are trained on evenly spaced sigmas, which some schedulers take."""
    options: dict[str, Any] = {} if shift is None else {"mu": shift}
    if spaced and isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), **options}
    return {"num_inference_steps": steps, **options}


def zero_terminal_snr_betas(kind: Any, config: Mapping) -> list[float]:
    """Betas whose last step is (almost) pure noise, for schedulers that cannot rescale them by themselves.

    Lin et al., arXiv:2305.08891, algorithm 1. The last signal is 2^-24 instead of 0, as diffusers has it elsewhere, so
    that dividing by it stays finite.
    """
    plain = kind.from_config({**config, "rescale_betas_zero_snr": False})
    root = torch.cumprod(1 - plain.betas.double(), 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    signal = root**2
    signal[-1] = 2**-24
    return (1 - torch.cat([signal[:1], signal[1:] / signal[:-1]])).tolist()
