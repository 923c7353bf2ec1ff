"""Schedules: at which noise levels a sampler stops between noise and picture, by the names that people know.

A schedule is a function of the levels that a model was trained at and a number of steps; it knows of no sampler, so
that any goes with any. The names are those of stable-diffusion-webui (modules/sd_schedulers.py there) and of ComfyUI
(comfy/samplers.py). Levels are sigmas, noise relative to signal: sqrt((1 - ā) / ā), one for each training timestep,
rising, float64. What comes back falls, has as many values as there are steps, and leaves out the zero at the end.
"""

from collections.abc import Callable

import numpy as np

Levels = np.ndarray


def at(levels: Levels, timesteps: np.ndarray) -> np.ndarray:
    """The sigmas of timesteps, which may lie between two: logarithms are interpolated (k-diffusion, external.py)."""
    return np.exp(np.interp(timesteps, np.arange(len(levels)), np.log(levels)))


def timesteps(levels: Levels, sigmas: np.ndarray) -> np.ndarray:
    """The other way round."""
    return np.interp(np.log(sigmas), np.log(levels), np.arange(len(levels)))


def normal(levels: Levels, steps: int) -> np.ndarray:
    """Evenly in time, from the first timestep to the last: k-diffusion's `get_sigmas`."""
    return at(levels, np.linspace(len(levels) - 1, 0, steps))


def sgm_uniform(levels: Levels, steps: int) -> np.ndarray:
    """Evenly in time, with the end of the last step where it would begin: Stability AI's generative-models."""
    return at(levels, np.linspace(len(levels) - 1, 0, steps + 1)[:-1])


def simple(levels: Levels, steps: int) -> np.ndarray:
    """Every so many of the trained levels, counted from the noisiest."""
    return levels[-1 - (np.arange(steps) * (len(levels) / steps)).astype(int)]


def trailing(levels: Levels, steps: int) -> np.ndarray:
    """Whole timesteps evenly back from the last (Lin et al., arXiv:2305.08891, table 2)."""
    return levels[np.round(np.arange(len(levels), 0, -len(levels) / steps)).astype(int)[:steps] - 1]


def karras(levels: Levels, steps: int) -> np.ndarray:
    """Evenly in the seventh root of sigma (Karras et al., arXiv:2206.00364, equation 5)."""
    low, high = levels[0] ** (1 / 7), levels[-1] ** (1 / 7)
    return (high + np.linspace(0, 1, steps) * (low - high)) ** 7


def exponential(levels: Levels, steps: int) -> np.ndarray:
    """Evenly in the logarithm of sigma."""
    return np.exp(np.linspace(np.log(levels[-1]), np.log(levels[0]), steps))


def kl_optimal(levels: Levels, steps: int) -> np.ndarray:
    """Evenly in the arc tangent of sigma (Sabour et al., arXiv:2404.14507, theorem 3.1)."""
    return np.tan(np.linspace(np.arctan(levels[-1]), np.arctan(levels[0]), steps))


def beta(levels: Levels, steps: int) -> np.ndarray:
    """More steps at both ends: timesteps by quantiles of a beta distribution (Lee et al., arXiv:2407.12173)."""
    quantiles = _beta_quantiles(1 - np.linspace(0, 1, steps, endpoint=False), 0.6)
    whole = np.rint(quantiles * (len(levels) - 1))
    # So many steps that two would stand at one level stand between the levels.
    return at(levels, whole if len(np.unique(whole)) == steps else quantiles * (len(levels) - 1))


def _beta_quantiles(shares: np.ndarray, shape: float) -> np.ndarray:
    """Quantiles of the beta distribution whose two parameters are `shape`.

    With x = sin²(u / 2) its density becomes sin(u) to the power of 2 shape - 1, which is summed by Simpson's rule: no
    pole is left at the ends.
    """
    u = np.linspace(0, np.pi, 20_001)
    middle = (u[1:] + u[:-1]) / 2
    density, between = np.sin(u).clip(0) ** (2 * shape - 1), np.sin(middle) ** (2 * shape - 1)
    area = np.concatenate([[0.0], np.cumsum(density[:-1] + 4 * between + density[1:])])
    return np.sin(np.interp(shares, area / area[-1], u) / 2) ** 2


SCHEDULES: dict[str, Callable[[Levels, int], np.ndarray]] = {
    "Normal": normal,
    "Karras": karras,
    "Exponential": exponential,
    "SGM Uniform": sgm_uniform,
    "Simple": simple,
    "Beta": beta,
    "KL Optimal": kl_optimal,
    "Trailing": trailing,
}
"""Label → schedule. Webui calls Normal "Uniform", too."""
