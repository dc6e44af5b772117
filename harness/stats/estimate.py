"""A number with its interval: from bootstrap draws, with what so few items and seeds leave open.

Needs numpy alone where there is one seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.stats.bootstrap import seeds_half_width, tail_stretch

DETECTABLE = 2.80
"""Standard errors a true difference must have to be seen with 80 % power at 5 %: 1.96 + 0.84."""
NO_SPREAD = 1e-9
"""Of a minimum detectable effect: rounding alone."""
FEWEST = 10
"""Items, or clusters of them, below which nothing is decided: the bootstrap of a handful has no width to speak of."""
UNSEEN = -math.log(0.025)
"""Expected number of changed items, 3.69, that leaves no item changed in 2.5 % of samples: exp(-3.69) = 0.025."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN where it is not defined."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    se: float = np.nan
    """Standard deviation of the bootstrap replicates: clustered, stratified, paired."""
    n: int = 0
    """Paired items behind it."""
    p: float = np.nan
    """Two-sided bootstrap p of no difference, where this is one between recipes of several seeds each."""
    least_p: float = np.nan
    """The smallest p that so many draws can give: a p that is equal to it is a bound, not a value."""
    seeds_half: float = 0.0
    """Half width of the interval that seeds bring by themselves, whatever the number of items; 0 with one seed."""
    step: float = 0.0
    """How far the number moves, in its unit, if a cluster of items is answered otherwise (`measures.steps_of`)."""

    @property
    def p_is_bound(self) -> bool:
        return bool(self.p <= self.least_p)

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.value))

    @property
    def detectable(self) -> float:
        """Minimum detectable effect: 2.80 · sd of the paired differences / √n, clustered."""
        return DETECTABLE * self.se

    @property
    def unseen(self) -> float:
        """The largest effect, in its unit, that may be there though not one item shows it: 3.69 steps.

        n clusters that change with probability p each all stay the same with probability exp(-n p), which is below 2.5 % where
        n p > 3.69; each is worth a step, so larger effects than 3.69 steps are excluded ("rule of three", there at 5 %).
        """
        return UNSEEN * self.step

    @property
    def overlooked(self) -> float:
        """The size below which effects may go unseen: where no item changed, what the number of items alone excludes.

        The minimum detectable effect is 0 then, which would say that nothing is too small to be seen.
        """
        return self.unseen if self.detectable < NO_SPREAD else self.detectable

    @property
    def enough(self) -> bool:
        """Whether so many items can decide anything."""
        return self.n >= FEWEST

    @property
    def sure_low(self) -> float:
        """Lower end that counts for claims: an interval of items that did not change has no width, and excludes little."""
        return min(self.low, self.value - self.unseen)

    @property
    def sure_high(self) -> float:
        """The same of the upper end."""
        return max(self.high, self.value + self.unseen)

    def items_for(self, half: float) -> float:
        """Return how many items the interval would need to reach `half` to either side, all else being as it is.

        The part that seeds bring stays as it is; infinite where that alone is wider.
        """
        present = ((self.high - self.low) / 2) ** 2
        # Of the width, only what items bring can be had with more of them.
        from_seeds = min(self.seeds_half**2, present)
        if not self.known or not half**2 > from_seeds:
            return math.inf
        for_width = self.n * max(0.0, present - from_seeds) / (half**2 - from_seeds)

        # However narrow the interval: so few items cannot show a change that moves one item in
        # many.
        for_unseen = self.n * self.unseen / half
        return math.ceil(max(for_width, for_unseen))


def stretched(value: float, by_seed: np.ndarray, draws: np.ndarray, twice: float = 0.0) -> np.ndarray:
    """Return draws (B,) at the distance from the estimate that few seeds demand; `twice`: see `bootstrap.counted_twice`."""
    factor = tail_stretch(by_seed, draws[np.isfinite(draws)], twice)
    return value + factor * (draws - value)


def estimate_of(
    value: float,
    by_seed: np.ndarray,
    draws: np.ndarray,
    n: int,
    twice: float = 0.0,
    test: bool = False,
    step: float = 0.0,
) -> Estimate:
    """Return the estimate of one number; `twice`: see `bootstrap.counted_twice`. `test`: with a p."""
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return Estimate()
    draws = stretched(value, by_seed, draws, twice)
    low, high = np.quantile(draws, [0.025, 0.975])
    se = float(draws.std(ddof=1)) if len(draws) > 1 else np.nan

    # A p is asked for only where a claim may follow; it is a bound where every draw agrees.
    p = least = np.nan
    if test:
        # two-sided: twice the smaller tail, with the estimate itself counted among the draws
        tail = min((draws <= 0).sum(), (draws >= 0).sum())
        least = 2 / (len(draws) + 1)
        p = min(1.0, (tail + 1) * least)
    seeds_half = seeds_half_width(by_seed, twice)
    return Estimate(float(value), float(low), float(high), se, int(n), float(p), float(least), seeds_half, float(step))
