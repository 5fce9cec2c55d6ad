// Lines over time that break where nothing is known, and the small trend under a figure.
import {
  ColorType, LineSeries, LineStyle, createChart,
} from "/assets/vendor/lightweight-charts-5.2.1.mjs";

const GAP_S = 30; // three readings: what was in between is not known
const MOST_DOTS = 20;
const STYLES = { first: LineStyle.Solid, second: LineStyle.Dashed, third: LineStyle.Dotted };
const UNSEEN = "transparent";
const PERCENT = { priceRange: { minValue: 0, maxValue: 100 } };

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const shortClock = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
const at = (time) => new Date(time * 1000);
const isKnown = (value) => value !== null && value !== undefined;

// A figure as people read it: at least three digits, and a dash for what is not known.
export function shown(value, unit = "") {
  if (!isKnown(value)) return "–";
  const text = fixed(value, Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2, 0);
  return unit ? `${text} ${unit}` : text;
}

// A figure of a column, where the points of the numbers are below each other.
export function fixed(value, digits, least = digits) {
  if (!isKnown(value)) return "–";
  return value.toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: digits });
}

// A figure element: its list names the fields to draw and has their colours, its plot takes them.
export class LineChart {
  constructor(figure) {
    this.unit = figure.dataset.unit;
    this.name = figure.querySelector("h3").textContent;
    this.plot = figure.querySelector(".plot");
    this.chart = createChart(this.plot, {
      autoSize: true, handleScroll: false, handleScale: false,
      layout: { attributionLogo: false },
      localization: {
        priceFormatter: (value) => shown(value, this.unit),
        timeFormatter: (time) => clock.format(at(time)),
      },
      rightPriceScale: { borderVisible: false, minimumWidth: 64, scaleMargins: { top: .08, bottom: .04 } },
      timeScale: {
        borderVisible: false, fixLeftEdge: true, fixRightEdge: true, tickMarkMaxCharacterLength: 8,
        tickMarkFormatter: (time) => (time % 60 ? clock : shortClock).format(at(time)),
      },
      crosshair: { horzLine: { visible: false, labelVisible: false } },
    });
    this.lines = [...figure.querySelectorAll("[data-line]")].map((item) => this.#line(item));
    this.points = [];
    this.chart.subscribeCrosshairMove(({ time }) => this.#tell(time));
    this.chart.timeScale().subscribeSizeChange(() => this.chart.timeScale().fitContent());
    this.paint();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  // The dots are a series of their own: where a line breaks, its colour would hide them.
  #line(item) {
    const options = {
      lineWidth: 2, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false,
      autoscaleInfoProvider: (original) => this.#scale(original()),
    };
    const line = this.chart.addSeries(LineSeries, { ...options, lineStyle: STYLES[item.className] });
    const dots = this.chart.addSeries(LineSeries, {
      ...options, lineVisible: false, pointMarkersVisible: true, pointMarkersRadius: 2.5,
      crosshairMarkerVisible: true,
    });
    return { item, line, dots, field: item.dataset.line };
  }

  #scale(found) {
    if (this.unit === "%") return PERCENT;
    if (!found?.priceRange) return found;
    return { priceRange: { minValue: 0, maxValue: Math.max(found.priceRange.maxValue, 1) } };
  }

  paint() {
    const { color: text, borderTopColor: grid } = getComputedStyle(this.plot);
    this.chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: UNSEEN }, textColor: text },
      grid: { vertLines: { visible: false }, horzLines: { color: grid } },
      crosshair: { vertLine: { color: text, labelBackgroundColor: text } },
    });
    for (const { item, line, dots } of this.lines) {
      const { color } = getComputedStyle(item, "::before");
      line.applyOptions({ color });
      dots.applyOptions({ color });
    }
  }

  // `points`: readings with their `time` in Unix seconds, oldest first.
  show(points) {
    this.points = points;
    for (const { field, line, dots } of this.lines) {
      line.setData(points.map((point, i) => drawn(point, points[i + 1], field)));
      dots.setData(points.map((point, i) => (
        points.length <= MOST_DOTS || isAlone(points, i, field)
          ? { time: point.time, ...(isKnown(point[field]) ? { value: point[field] } : {}) }
          : { time: point.time }
      )));
    }
    this.chart.timeScale().fitContent();
    this.plot.dataset.points = String(points.length);
    this.#tell();
    this.plot.ariaLabel = `${this.name}, ${points.length} readings; last: ${
      this.lines.map(({ item }) => item.textContent).join(", ")}`;
  }

  // The figures of the reading under the pointer, else of the last.
  #tell(time) {
    const point = this.points.find((one) => one.time === time) ?? this.points.at(-1);
    for (const { item, field } of this.lines)
      item.querySelector("b").textContent = shown(point?.[field], this.unit);
  }
}

function drawn(point, next, field) {
  const value = point[field];
  if (!isKnown(value)) return { time: point.time };
  return { time: point.time, value, ...(isJoined(point, next, field) ? {} : { color: UNSEEN }) };
}

const isJoined = (point, next, field) =>
  next === undefined || (isKnown(next[field]) && next.time - point.time <= GAP_S);

function isAlone(points, i, field) {
  const before = points[i - 1];
  const hasBefore = before && isKnown(before[field]) && isJoined(before, points[i], field);
  return !hasBefore && !(points[i + 1] && isJoined(points[i], points[i + 1], field));
}

// The path of a trend in a box of 100 by 24, from the least to the most.
export function trend(values) {
  const known = values.filter(isKnown);
  const most = Math.max(...known), least = Math.min(...known);
  const y = (value) => (most === least ? 12 : 22 - 20 * (value - least) / (most - least)).toFixed(1);
  const x = (i) => (values.length < 2 ? 50 : 1 + 98 * i / (values.length - 1)).toFixed(1);
  return values.map((value, i) => {
    if (!isKnown(value)) return "";
    return isKnown(values[i - 1]) ? `L${x(i)} ${y(value)}` : `M${x(i)} ${y(value)}h.01`;
  }).join("");
}
