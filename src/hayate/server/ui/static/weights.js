// Ctrl+Up and Ctrl+Down in a prompt: the weight of words, and of the networks in angle brackets.

const STEP = 0.1;
const NETWORK_STEP = 0.05;
const BRACKET = 1.1;
const NUMBER = /^:\s*(\d*\.?\d+)\s*\)/;
const WORD_END = /[\s.,\\/!?%^*;:{}=`~()[\]<>|]/;

/** The text with the weight at a selection moved by one step up (1) or down (-1), and the selection after it; null
 * where there is nothing to weigh. */
export function reweigh(text, start, end, direction) {
  const network = networkAt(text, start, end);
  if (network) return reweighNetwork(text, network, direction);
  const [from, to] = start === end ? (bracketAt(text, start) ?? wordAt(text, start)) : trimmed(text, start, end);
  if (from >= to) return null;
  return replaced(text, wrapping(text, from, to), from, to, direction);
}

/** `<lora:name:0.8>` around the selection: where its first number is, or where one could stand. */
function networkAt(text, start, end) {
  const open = text.lastIndexOf("<", start - 1);
  const close = text.indexOf(">", end);
  if (open < 0 || close < 0 || /[<>\n]/.test(text.slice(open + 1, close))) return null;
  const found = /^<\w+:[^:>]+/.exec(text.slice(open, close));
  return found && { open, close, name_end: open + found[0].length };
}

function reweighNetwork(text, { open, close, name_end }, direction) {
  const rest = text.slice(name_end, close);
  const found = /^:(-?\d*\.?\d+)/.exec(rest);
  const tail = found ? rest.slice(found[0].length) : rest;
  const weight = rounded((found ? Number(found[1]) : 1) + direction * NETWORK_STEP);
  const head = `${text.slice(0, name_end)}:${weight}`;
  return { text: `${head}${tail}${text.slice(close)}`, start: open + 1, end: head.length };
}

/** What the innermost round or square brackets around a place hold, without their weight. */
function bracketAt(text, place) {
  let depth = 0;
  for (let at = place - 1; at >= 0; at -= 1) {
    if (isEscaped(text, at)) continue;
    if (text[at] === ")" || text[at] === "]") depth += 1;
    else if ((text[at] === "(" || text[at] === "[") && depth-- === 0) {
      const close = closing(text, at);
      if (close < place) return null;
      const inner = text.slice(at + 1, close);
      const weight = text[at] === "(" ? /:\s*\d*\.?\d+\s*$/.exec(inner) : null;
      // Square brackets with a colon or a bar are schedules, not weights.
      if (text[at] === "[" && /[:|]/.test(inner)) return null;
      return [at + 1, weight ? at + 1 + weight.index : close];
    }
  }
  return null;
}

function closing(text, open) {
  let depth = 0;
  for (let at = open; at < text.length; at += 1) {
    if (isEscaped(text, at)) continue;
    if ("([".includes(text[at])) depth += 1;
    else if (")]".includes(text[at]) && --depth === 0) return at;
  }
  return -1;
}

function isEscaped(text, at) {
  let slashes = 0;
  while (text[at - 1 - slashes] === "\\") slashes += 1;
  return slashes % 2 === 1;
}

function wordAt(text, place) {
  let [from, to] = [place, place];
  while (from > 0 && !WORD_END.test(text[from - 1])) from -= 1;
  while (to < text.length && !WORD_END.test(text[to])) to += 1;
  return [from, to];
}

function trimmed(text, start, end) {
  const part = text.slice(start, end);
  return [start + part.length - part.trimStart().length, end - (part.length - part.trimEnd().length)];
}

/** The brackets right around [from, to), and the weight that they give together. */
function wrapping(text, from, to) {
  const explicit = NUMBER.exec(text.slice(to));
  if (text[from - 1] === "(" && !isEscaped(text, from - 1) && explicit) {
    return { before: 1, after: explicit[0].length, weight: Number(explicit[1]) };
  }
  let count = 0;
  for (const [open, close, factor] of [
    ["(", ")", BRACKET],
    ["[", "]", 1 / BRACKET],
  ]) {
    while (text[from - 1 - count] === open && text[to + count] === close && !isEscaped(text, from - 1 - count))
      count += 1;
    if (count) return { before: count, after: count, weight: factor ** count };
  }
  return { before: 0, after: 0, weight: 1 };
}

function replaced(text, { before, after, weight }, from, to, direction) {
  const words = text.slice(from, to);
  const next = rounded(Math.max(0, weight + direction * STEP));
  const [head, tail] = [text.slice(0, from - before), text.slice(to + after)];
  if (next === 1) return { text: head + words + tail, start: head.length, end: head.length + words.length };
  const start = head.length + 1;
  return { text: `${head}(${words}:${next})${tail}`, start, end: start + words.length };
}

const rounded = (value) => Math.round(value * 100) / 100;
