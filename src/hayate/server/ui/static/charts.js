// Small charts as SVG: bars with their spread, and speed against likeness. Colours and type are in tools.css.

import { say } from "./api.js";
import { draw } from "./dom.js";

const WIDTH = 160;
const HEIGHT = 14;

/** A bar from zero to the median, with a whisker from the lowest to the highest; `most` is the end of the scale. */
export function speedBar({ median, low = median, high = median }, most) {
  const x = (value) => ((WIDTH - 4) * value) / most;
  return draw(
    "svg",
    { class: "bar", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true" },
    draw("rect", { x: 0, y: 2, width: Math.max(1, x(median)), height: HEIGHT - 4, rx: 2 }),
    draw("path", { d: `M${x(low)} ${HEIGHT / 2}H${x(high)}M${x(low)} 3v${HEIGHT - 6}M${x(high)} 3v${HEIGHT - 6}` }),
  );
}

const BOX = { most: 760, least: 300, height: 260, left: 56, right: 20, top: 16, bottom: 40 };

/**
 * Speed (to the right) against likeness (up) of `points` ({name, speed, psnr_db, mark}); null for identical pictures,
 * which have a band of their own on top. The list of names stands in the table above it; `room` is how wide it may be.
 */
export function tradeChart(points, title, room) {
  const width = Math.max(BOX.least, Math.min(BOX.most, room));
  const plot = draw("svg", { class: "trade", viewBox: `0 0 ${width} ${BOX.height}`, width, height: BOX.height, role: "img", "aria-label": title });
  const most = 1.1 * Math.max(...points.map(({ speed }) => speed));
  const known = points.map(({ psnr_db }) => psnr_db).filter(Number.isFinite);
  const [low, high] = known.length ? [Math.min(...known) - 3, Math.max(...known) + 3] : [30, 60];
  const right = width - BOX.right;
  const bottom = BOX.height - BOX.bottom;
  const x = (speed) => BOX.left + ((right - BOX.left) * speed) / most;
  const y = (psnr_db) => (psnr_db === null ? BOX.top + 10 : BOX.top + 34 + ((bottom - BOX.top - 34) * (high - psnr_db)) / (high - low));
  plot.append(draw("path", { class: "axis", d: `M${BOX.left} ${BOX.top}V${bottom}H${right}` }));
  for (const tick of ticks(0, most)) plot.append(label(x(tick), bottom + 16, number(tick), "middle"), draw("path", { class: "tick", d: `M${x(tick)} ${bottom}v4` }));
  if (known.length) for (const tick of ticks(low, high)) plot.append(label(BOX.left - 8, y(tick) + 4, number(tick), "end"));
  plot.append(label(BOX.left - 8, y(null) + 4, say("chart.same"), "end"), label((BOX.left + right) / 2, BOX.height - 6, "it/s", "middle"), label(BOX.left + 6, BOX.top + 32, "PSNR, dB", "start"));
  for (const point of points) plot.append(dot(point, x, y));
  return plot;
}

function dot({ name, speed, psnr_db, mark, verdict }, x, y) {
  const title = draw("title");
  title.textContent = `${name}: ${number(speed)} it/s, ${psnr_db === null ? say("tune.identical") : `${psnr_db.toFixed(1)} dB`}`;
  return draw("g", { class: `dot ${verdict}` }, title, draw("circle", { cx: x(speed), cy: y(psnr_db), r: 8 }), label(x(speed), y(psnr_db) + 4, String(mark), "middle"));
}

function label(x, y, text, anchor) {
  const element = draw("text", { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
}

/** Some four round numbers between two. */
function ticks(low, high) {
  const raw = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw);
  const found = [];
  for (let place = Math.ceil(low / step); place * step <= high; place++) found.push(place * step);
  return found;
}

const number = (value) => String(Number(value.toPrecision(3)));
