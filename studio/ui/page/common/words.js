// Numbers and states as words for a person, and small helpers to build the page. Text is only ever set as text.

/** An element with properties and children; `class` and `aria-…` names are attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class" || name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Change text only if it differs, so that screen readers and selections are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Let Enter in a field of numbers press `button`, as in any form. */
export function onEnter(input, button) {
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    button.click();
  });
}

/** "1 step", "25 steps". */
export const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/** "0.12 s", "3.4 s", "75 s", "4 min". */
export function duration(seconds) {
  if (seconds < 1) return `${Math.max(seconds, 0.001).toFixed(seconds < 0.1 ? 3 : 2)} s`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 100 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

/** "4 s", "2 min": how long something will still take, without false precision. */
export function remaining(seconds) {
  if (seconds < 1) return "less than 1 s left";
  return seconds < 100 ? `${Math.ceil(seconds)} s left` : `${Math.ceil(seconds / 60)} min left`;
}

/** Width and height that the name of a start picture or a mask tells. */
export function namedSize(name) {
  const [width, height] = name.split("-")[0].split("x").map(Number);
  return { width, height };
}

/** Width and height of the finished picture: with a mask, those of the picture that was started from. */
export function sizeOf(recipe) {
  return recipe.mask ? namedSize(recipe.source) : { width: recipe.width, height: recipe.height };
}

/** What a product of steps and a share may lack of a whole number: in binary 100 × 0.29 is a little less than 29. */
const ROUNDING = 1e-6;

/** How many of a recipe's steps are run: the same sum as `Recipe.steps_run` in studio/recipe/recipe.py. */
export const stepsRun = (recipe) => (recipe.source ? Math.trunc(recipe.steps * recipe.strength + ROUNDING) : recipe.steps);

/** The shape of a picture's thumbnail, width / height: a strip of pixels is cut, so that it leaves room for others. */
export function thumbnailRatio(recipe) {
  const { width, height } = sizeOf(recipe);
  return Math.min(Math.max(width / height, 0.5), 2.5);
}

/** What decided a picture besides its prompts, in one line. `forkedAt`: the step it was forked at, if it was. */
export function facts(recipe, forkedAt) {
  const { width, height } = sizeOf(recipe);
  const steps = recipe.source
    ? `${stepsRun(recipe)} of ${counted(recipe.steps, "step")} · strength ${recipe.strength}`
    : counted(recipe.steps, "step");
  const end = recipe.guidance_end ?? 1;
  const rescaled = typeof recipe.guidance_rescale === "number" ? `, rescaled ${recipe.guidance_rescale}` : "";
  const guidance = `guidance ${recipe.guidance_scale}${end < 1 ? ` to ${Math.round(100 * end)} %` : ""}${rescaled}`;
  const varied = recipe.variation_strength ? [`variation ${recipe.variation_strength} of seed ${recipe.variation_seed}`] : [];
  const schedule = ["Automatic", "As published"].includes(recipe.schedule ?? "Automatic") ? "" : ` (${recipe.schedule})`;
  return [...changes(recipe, forkedAt), ...varied, steps, guidance, `${recipe.sampler}${schedule}`, `${width} × ${height}`, recipe.model].join("\u00a0· ");
}

/** "forked at step 7: guidance 6 → 9", "changed at step 12: fresh noise 0.4": each change on the way, in order. */
export function changes(recipe, forkedAt) {
  const turns = recipe.turns ?? [];
  const steps = [...new Set([...turns.map(({ step }) => step), ...(forkedAt === undefined ? [] : [forkedAt])])].sort((a, b) => a - b);
  return steps.map((step) => {
    const what = changesAt(recipe, step);
    return `${step === forkedAt ? "forked" : "changed"} at step ${step}${what ? `: ${what}` : ""}`;
  });
}

/** "guidance 6 → 9, sampler Euler": what changed after exactly so many steps; empty if nothing did. */
export function changesAt(recipe, step) {
  const turns = recipe.turns ?? [];
  const turn = turns.find((each) => each.step === step) ?? {};
  const before = (name) => turns.filter((each) => each.step < step && given(each[name])).at(-1)?.[name] ?? recipe[name];
  return Object.entries(CHANGED)
    .filter(([name]) => given(turn[name]))
    .map(([name, words]) => words(turn[name], before(name)))
    .join(", ");
}

const given = (value) => value !== null && value !== undefined;
const quoted = (text) => (text ? `“${text}”` : "empty");

/** What can change on the way → how that is said. */
const CHANGED = {
  prompt: (now) => `prompt ${quoted(now)}`,
  negative_prompt: (now) => `negative prompt ${quoted(now)}`,
  guidance_scale: (now, before) => `guidance ${before} → ${now}`,
  sampler: (now, before) => `sampler ${before} → ${now}`,
  schedule: (now, before) => `schedule ${before} → ${now}`,
  noise: ([strength]) => `fresh noise ${strength}`,
};

/** How a job stands, in one line. */
export function standing(job) {
  switch (job.state) {
    case "queued":
      return job.done ? `Waiting to go on from step ${job.done}` : "Waiting for its turn";
    case "loading":
      return loading(job);
    case "step":
      return stepping(job);
    case "paused":
      return job.reason || stoppedAtStep(job);
    case "failed":
      return job.reason;
    default:
      return "";
  }
}

function loading({ model, read, bytes }) {
  if (!bytes) return `Waiting to load ${model}`;
  return read < bytes ? `Loading ${model}, ${part(read, bytes)}` : `Getting ${model} ready`;
}

/** "6.9 GB", "144 MB", "12 kB". */
export function size(bytes) {
  const [unit, name] = unitOf(bytes);
  return `${inUnit(bytes, unit)} ${name}`;
}

/** "1.2 of 4.3 GB": both in the unit of the whole, so that only the first number moves. */
function part(some, whole) {
  const [unit, name] = unitOf(whole);
  return `${inUnit(some, unit)} of ${inUnit(whole, unit)} ${name}`;
}

function unitOf(bytes) {
  if (bytes >= 1e9) return [1e9, "GB"];
  return bytes >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
}

const inUnit = (bytes, unit) => (unit === 1e9 ? (bytes / unit).toFixed(1) : String(Math.max(bytes ? 1 : 0, Math.round(bytes / unit))));

/** Where a paused job stands. */
export const stoppedAtStep = (job) => `Stopped at step ${job.done} of ${job.total}`;

function stepping(job) {
  if (job.done >= job.total) return "Saving the picture";
  const parts = [`Step ${job.done} of ${job.total}`];
  if (job.seconds > 0) {
    parts.push(`${duration(job.seconds)} per step`, remaining(job.seconds * (job.total - job.done)));
  }
  return parts.join(" · ");
}

/** How several jobs stand together, in one line. */
export function standingOfAll(all) {
  if (all.length < 2) return all.length ? standing(all[0]) : "";
  if (all.every((job) => job.state === "finished")) return "";
  const steps = all.filter((job) => job.state === "step" && job.done < job.total);
  const finished = all.filter((job) => job.state === "finished").length;
  const parts = finished ? [`${finished} of ${all.length} finished`] : [`${all.length} pictures`];
  if (steps.length) {
    const least = steps.reduce((a, b) => (a.done / a.total <= b.done / b.total ? a : b));
    parts.push(`step ${least.done} of ${least.total}`);
    if (least.seconds > 0) {
      parts.push(`${duration(least.seconds)} per step`);
      parts.push(remaining(Math.max(...steps.map((job) => job.seconds * (job.total - job.done)))));
    }
    // Those of another model or size have not begun, and nothing is known of them yet.
    const waiting = all.filter((job) => job.state === "queued" && !job.done).length;
    if (waiting) parts.push(`then ${waiting} more`);
  } else {
    const telling = all.find((job) => ["queued", "loading", "paused"].includes(job.state));
    if (telling) parts.push(standing(telling));
  }
  return parts.join(" · ");
}
