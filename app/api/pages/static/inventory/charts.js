// Draws the depths of the queues and the rates of the API process, from its metrics.

import { address, call, knownKey } from "./api.js";
import { byId, draw, make, say } from "./elements.js";
import { words } from "./news.js";
import { repeat } from "./repeating.js";
import { visible } from "./text.js";

const SECONDS = 5;
const SAMPLES = 60;
const WIDTH = 120;
const HEIGHT = 32;
const BOX = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };

const series = new Map(); // samples by the name that is shown
let before = null; // the totals of the sample before, and when they were read
let refusedKey; // it may not read the metrics

/** Read the metrics now and every few seconds, unless the key may not. */
export async function showCharts() {
  await sample();
  repeat(SECONDS, sample);
}

async function sample() {
  if (byId("overview").hidden || knownKey() === refusedKey) return 0;
  try {
    const metrics = parsed(await (await call(address("metrics"))).text());
    keep(new Map(figures(metrics)));
    paint();
    say(byId("charts-status"), "");
    return 0;
  } catch (error) {
    if (error.status === 403) refusedKey = knownKey();
    if (error.status !== 401) say(byId("charts-status"), `Not shown: ${words(error)}`);
    return error.retryAfter;
  }
}

/** Return the samples of Prometheus' text format, each with name, labels and number. */
function parsed(text) {
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  return lines.map((line) => {
    const [, name, text, number] = /^([^\s{]+)(?:\{(.*)\})? (\S+)/.exec(line);
    const pairs = [...(text ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
    const labels = Object.fromEntries(pairs.map((pair) => pair.slice(1)));
    return { name, labels, number: Number(number) };
  });
}

/** Return what is shown: pairs of a name and a figure. Rates need two samples. */
function figures(metrics) {
  const queues = metrics.filter(({ name }) => name === "page_metadata_queue_messages")
    .sort((one, other) => place(one.labels.queue) - place(other.labels.queue));
  const totals = {
    "requests answered a second": total(metrics, "page_metadata_http_request_seconds_count",
      ({ route }) => route !== "/metrics"),
    "messages published a second": total(metrics, "page_metadata_publish_seconds_count",
      ({ outcome }) => outcome === "success"),
  };
  const moment = performance.now() / 1000;
  const rates = before === null ? [] : Object.entries(totals).map(([name, count]) =>
    // A count that has become smaller is that of a process that was started again.
    [name, Math.max(0, count - before.totals[name]) / (moment - before.moment)]);
  before = { totals, moment };
  return [...queues.map(({ labels, number }) => [labels.queue, number]), ...rates];
}

/** Return the place of a queue on the way of a message; the request queue may have any name. */
function place(queue) {
  return ["retry", "retries", "dead"].indexOf(queue.split(".")[1]);
}

function total(metrics, wanted, fits) {
  const found = metrics.filter(({ name, labels }) => name === wanted && fits(labels));
  return found.reduce((sum, { number }) => sum + number, 0);
}

function keep(figures) {
  for (const name of new Set([...series.keys(), ...figures.keys()])) {
    const samples = [...(series.get(name) ?? []), figures.get(name) ?? NaN];
    series.set(name, samples.slice(-SAMPLES));
  }
}

function paint() {
  const charts = [...series].map(([name, samples]) => chart(visible(name), samples));
  byId("charts").replaceChildren(...charts);
}

/** Return a line of the samples, and the last one as a number. Gaps stand for missing ones. */
function chart(name, samples) {
  const known = samples.filter((figure) => !Number.isNaN(figure));
  const top = Math.max(...known, 1);
  const last = samples.at(-1);
  const shown = Number.isNaN(last) ? "unknown" : rounded(last);
  const about = `${name}: ${shown}. At most ${rounded(top)} in ${samples.length} samples.`;
  const line = draw("path", { d: path(samples, top), "vector-effect": "non-scaling-stroke" });
  return make("figure", {},
    make("figcaption", {}, name, " ", make("b", {}, shown)),
    draw("svg", { ...BOX, role: "img", "aria-label": about }, line));
}

function path(samples, top) {
  const step = (WIDTH - 2) / (SAMPLES - 1);
  const start = WIDTH - 1 - (samples.length - 1) * step;
  let pen = "M";
  return samples.map((figure, index) => {
    if (Number.isNaN(figure)) return (pen = "M", "");
    const x = start + index * step;
    const y = HEIGHT - 1 - (figure / top) * (HEIGHT - 2);
    const point = `${pen}${x.toFixed(1)} ${y.toFixed(1)}h0.01`; // a lone sample is a dot
    pen = "L";
    return point;
  }).join("");
}

function rounded(figure) {
  return figure.toLocaleString("en", { maximumFractionDigits: figure < 10 ? 1 : 0 });
}
