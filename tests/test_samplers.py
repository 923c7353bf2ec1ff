"""Solvers and schedules by themselves: against published formulas, and on data whose perfect model is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from studio.errors import RecipeError
from studio.families.samplers import DIFFUSION, FLOW, Sampler, schedules_of
from studio.recipe import schedules
from studio.recipe.recipe import AS_PUBLISHED, AUTOMATIC

SDXL = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
"""scheduler/scheduler_config.json of stabilityai/stable-diffusion-xl-base-1.0."""

SD1 = {name: value for name, value in SDXL.items() if name != "timestep_spacing"}
"""Of stable-diffusion-v1-5, which says nothing of spacing. Its levels are those of SDXL."""

ZERO_SNR = {**SDXL, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}

BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
LEVELS = ((1 - np.cumprod(1 - BETAS)) / np.cumprod(1 - BETAS)) ** 0.5
"""k-diffusion's `DiscreteSchedule.sigmas` of Stable Diffusion: 0.0292 to 14.6146."""


def laid_out(label: str, schedule: str, steps: int) -> tuple[list[float], list[float]]:
    """Sigmas, without the zero at the end, and timesteps of a sampler that calls once for each step."""
    sampler = Sampler(DIFFUSION, label, SDXL, steps, schedule=schedule)
    return sampler._scheduler.sigmas[:-1].tolist(), sampler._scheduler.timesteps.tolist()


def between(time: float) -> float:
    """k-diffusion's `t_to_sigma`: logarithms are interpolated."""
    low, share = int(time), time - int(time)
    high = min(low + 1, 999)
    return math.exp((1 - share) * math.log(LEVELS[low]) + share * math.log(LEVELS[high]))


@pytest.mark.parametrize("steps", [1, 4, 25, 60])
@pytest.mark.parametrize("label", ["Euler", "DPM++ 2M", "UniPC"])
def test_schedules_are_those_of_k_diffusion_and_comfyui(label: str, steps: int) -> None:
    """Written again from `get_sigmas`, `get_sigmas_karras`, `get_sigmas_exponential` (k-diffusion, sampling.py), and
    from `normal_scheduler(sgm=True)`, `simple_scheduler` and `kl_optimal_scheduler` (ComfyUI, samplers.py)."""
    low, high, last = LEVELS[0], LEVELS[-1], max(steps - 1, 1)
    shares = [step / last for step in range(steps)]
    published = {
        "Normal": [between(999 - 999 * share) for share in shares],
        "Karras": [(high ** (1 / 7) + share * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for share in shares],
        "Exponential": [high * (low / high) ** share for share in shares],
        "SGM Uniform": [between(999 - 999 * step / steps) for step in range(steps)],
        "Simple": [LEVELS[999 - int(step * (1000 / steps))] for step in range(steps)],
        "KL Optimal": [math.tan(share * math.atan(low) + (1 - share) * math.atan(high)) for share in shares],
        "Trailing": [LEVELS[round(1000 - step * 1000 / steps) - 1] for step in range(steps)],
    }
    for name, sigmas in published.items():
        found, times = laid_out(label, name, steps)
        assert found == pytest.approx(sigmas, rel=1e-4), name
        assert found[0] == pytest.approx(14.6146, rel=1e-4) and times[0] == pytest.approx(999, abs=1e-3), name


def test_the_beta_schedule_takes_quantiles_of_the_beta_distribution() -> None:
    """Of 0.6 and 0.6, Lee et al., arXiv:2407.12173. Its distribution function is half at a half, and near zero x^0.6
    times 1 / (0.6 B(0.6, 0.6)), B being gamma(0.6)² / gamma(1.2); for shape 1/2 it is 2/pi asin(sqrt(x))."""
    x = 1e-4
    share = x**0.6 / (0.6 * math.gamma(0.6) ** 2 / math.gamma(1.2))
    found = schedules._beta_quantiles(np.array([share, 0.5, 1 - share, 0.0, 1.0]), 0.6)
    assert found == pytest.approx([x, 0.5, 1 - x, 0.0, 1.0], rel=1e-3, abs=1e-7)
    arcsine = schedules._beta_quantiles(np.array([0.1, 0.3]), 0.5)
    assert arcsine == pytest.approx([math.sin(0.05 * math.pi) ** 2, math.sin(0.15 * math.pi) ** 2], rel=1e-3)
    for steps in (4, 25, 200):
        sigmas, times = laid_out("Euler", "Beta", steps)
        assert times[0] == pytest.approx(999, abs=1e-3) and sorted(sigmas, reverse=True) == sigmas
    assert [round(time) for time in laid_out("Euler", "Beta", 2)[1]] == [999, 500]  # rint(0.5 * 999) is 500


def test_what_a_label_and_the_published_config_say_stays_as_it_was() -> None:
    """diffusers' spacings of SDXL's config: "leading" begins at 24 * 40 + 1, of which the sigma is 11.0."""
    for schedule in (AUTOMATIC, AS_PUBLISHED):
        sigmas, times = laid_out("Euler", schedule, 25)
        assert times[0] == 961 and sigmas[0] == pytest.approx(LEVELS[961], rel=1e-4)
        assert laid_out("DPM++ 2M Karras", schedule, 25)[0] == pytest.approx(
            laid_out("DPM++ 2M", "Karras", 25)[0], rel=1e-4
        )


def test_what_does_not_go_together_is_told() -> None:
    with pytest.raises(RecipeError, match=r"DPM2 does not go with the schedule 'Beta'\. Choose one of Automatic"):
        Sampler(DIFFUSION, "DPM2", SDXL, 4, schedule="Beta")
    with pytest.raises(RecipeError, match="LCM cannot make 300 steps"):
        Sampler(DIFFUSION, "LCM", SDXL, 300, schedule="Karras")
    assert all(schedules_of(FLOW, label) == (AUTOMATIC, AS_PUBLISHED) for label in FLOW)


def test_dmd2_stands_where_its_makers_have_it() -> None:
    """The card of tianweiy/DMD2: LCM's scheduler at timesteps 999, 749, 499 and 249."""
    assert Sampler(DIFFUSION, "LCM", SDXL, 4, schedule="Trailing")._timesteps.tolist() == [999, 749, 499, 249]


def test_ddim_goes_with_every_schedule() -> None:
    """As Euler's method in sigma, which it is (Song et al., arXiv:2010.02502, section 4.3): the same where both can."""
    trailing = {**SDXL, "timestep_spacing": "trailing", "set_alpha_to_one": True}
    by_itself, by_name = drawn("DDIM", trailing, 8, AUTOMATIC), drawn("DDIM", trailing, 8, "Trailing")
    assert torch.allclose(by_itself, by_name, atol=0.02)  # DDIM starts with a little less than all the noise


MEAN, SPREAD = 0.3, 0.5
"""Of the data below: normal deviates, independent for each value."""


def drawn(label: str, config: dict, steps: int, schedule: str) -> Tensor:
    """What a perfect model of such data draws: its prediction is their mean given the noisy value, which is known."""
    sampler = Sampler(DIFFUSION, label, config, steps, schedule=schedule)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(1, 4, 16, 16, generator=generator) * sampler.initial_scale
    while sampler.done < steps:
        given, sigma = sampler.model_input(latents), sampler._sigma().double()
        noisy = given.double() * (sigma**2 + 1) ** 0.5
        clean = (noisy * SPREAD**2 + MEAN * sigma**2) / (SPREAD**2 + sigma**2)
        noise = (noisy - clean) / sigma if sigma else torch.zeros_like(clean)
        alpha, beta = (sigma**2 + 1) ** -0.5, sigma * (sigma**2 + 1) ** -0.5
        output = noise if config["prediction_type"] == "epsilon" else alpha * noise - beta * clean
        latents = sampler.step(output.float(), latents, generator)
    return latents


@pytest.mark.parametrize("config", [SDXL, ZERO_SNR, SD1], ids=["sdxl", "zero terminal SNR", "sd1"])
@pytest.mark.parametrize("label", DIFFUSION)
def test_every_sampler_draws_a_picture_at_every_number_of_steps(label: str, config: dict) -> None:
    """Values near the data's mean, and nothing left of the noise, which is spread 29 or 8,192 times as widely."""
    for schedule in schedules_of(DIFFUSION, label)[: 1 if config == SD1 else -1]:
        for steps in (1, 2, 3, 4, 6, 12, 20):
            try:
                found = drawn(label, config, steps, schedule)
            except RecipeError:
                assert label == "LCM" and steps > 12  # which needs whole timesteps, and says so
                continue
            told = (schedule, steps, found.mean().item(), found.std().item())
            assert abs(found.mean().item() - MEAN) < 0.25 and found.std().item() < 2.5 * SPREAD, told


def test_old_recipes_keep_second_order_throughout() -> None:
    """What was drawn before version 6 stays: there the first step from pure noise goes wrong, and does so the same."""
    assert drawn("Heun", ZERO_SNR, 2, AS_PUBLISHED).std() > 10 > 1 > drawn("Heun", ZERO_SNR, 2, AUTOMATIC).std()
    assert torch.equal(drawn("Heun", SDXL, 8, AS_PUBLISHED), drawn("Heun", SDXL, 8, AUTOMATIC))
