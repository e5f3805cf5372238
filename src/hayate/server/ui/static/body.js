// From what a form says to the body of a `generate` job.

const AXES = ["x", "y", "z"];
/** Above every noise level that a model knows. */
const HIGHEST_SIGMA = 10_000;

/** The body of a job that starts from `start`, or from noise alone. */
export function bodyOf(values, start) {
  const body = structuredClone(values);
  body.request.prompt ??= "";
  if (start) body.request.start = startOf(body.request.start, start);
  else delete body.request.start;
  const interval = body.asked?.guidance_interval;
  if (interval) body.asked.guidance_interval = [interval[0] ?? 0, interval[1] ?? HIGHEST_SIGMA];
  body.script = scriptOf(body.script);
  if (!body.script) delete body.script;
  return body;
}

function startOf(fields, start) {
  const made = { ...fields, ...start };
  if (made.extend_px) made.extend_px = [0, 1, 2, 3].map((side) => made.extend_px[side] ?? 0);
  return made;
}

/**
 * A script's part of the body; the axes of a plot are texts there: "Steps=10,20". Fields of an extension's script have
 * a place of their own in the form, and only those of the chosen one are in it.
 */
function scriptOf(script) {
  if (!script?.name) return undefined;
  const { lent, ...own } = script;
  const made = Object.assign(own, ...Object.values(lent ?? {}));
  for (const axis of AXES) {
    if (made[axis]?.axis) made[axis] = `${made[axis].axis}=${made[axis].values ?? ""}`;
    else delete made[axis];
  }
  return made;
}
