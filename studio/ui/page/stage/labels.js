// What tells pictures apart that stand side by side: short where there is little room.

import { changesAt } from "../common/words.js";

/** Digits of a seed that are shown at least, where there is no room for all of them. */
const FEWEST = 3;

/** A name for each of some jobs, no two alike. `isShort`: with the digits of their seeds that differ only. */
export function namesOf(jobs, isShort) {
  const seeds = jobs.map(({ recipe }) => recipe.seed);
  const seedNames = isShort ? shortSeeds(seeds) : seeds.map((seed) => `Seed ${seed}`);
  const names = jobs.map((job, index) => [seedNames[index], variationOf(job), changeOf(job)].filter(Boolean).join("\u00a0· "));
  const count = new Map();
  return names.map((name) => {
    const number = (count.get(name) ?? 0) + 1;
    count.set(name, number);
    return number === 1 ? name : `${name}\u00a0(${number})`;
  });
}

/** The seed that its noise was turned towards: variations of one picture have the seed in common. */
function variationOf({ recipe }) {
  return recipe.variation_strength ? `variation ${recipe.variation_seed}` : "";
}

/** What was changed last, for pictures that often have the seed of their neighbour. */
function changeOf({ recipe, forked_at: forkedAt }) {
  const step = forkedAt ?? recipe.turns?.at(-1)?.step;
  if (step === undefined) return "";
  return changesAt(recipe, step) || `from step ${step}`;
}

/** The last digits of seeds, as many as differ. */
function shortSeeds(seeds) {
  const texts = seeds.map(String);
  const kinds = new Set(texts).size;
  let digits = FEWEST;
  while (new Set(texts.map((text) => text.slice(-digits))).size < kinds) digits++;
  return texts.map((text) => (text.length > digits + 1 ? `…${text.slice(-digits)}` : text));
}
