// Candles of days with lines over them; the last candle moves with each price.
import {
  CandlestickSeries, ColorType, LineSeries, createChart,
} from "/assets/vendor/lightweight-charts-5.2.1.mjs";

const DAY_S = 86_400;
const LINES = {
  "sma(20)": [{ output: "sma", color: "#e39b2d" }],
  "sma(50)": [{ output: "sma", color: "#8a63d2" }],
  "bollinger(20,2)": [
    { output: "upper", color: "#7d8b99" }, { output: "lower", color: "#7d8b99" },
  ],
};
export const INDICATORS = Object.keys(LINES);

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A colour as the canvas understands it: light-dark() is CSS's alone.
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found || style(name);
}

export class Chart {
  constructor(box) {
    this.box = box;
    this.chart = createChart(box, { autoSize: true, layout: { attributionLogo: false } });
    this.candles = this.chart.addSeries(CandlestickSeries, {});
    this.lines = new Map();
    this.times = []; // of the bars that are shown
    for (const [name, parts] of Object.entries(LINES)) {
      const made = parts.map(({ color }) => this.chart.addSeries(LineSeries, {
        color, lineWidth: 2, priceLineVisible: false, lastValueVisible: false,
        crosshairMarkerVisible: false,
      }));
      this.lines.set(name, made);
    }
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((rows) => {
      box.dataset.seen = rows ? String(Math.round(rows.to - rows.from)) : "0";
    });
    this.paint();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  paint() {
    const [gain, loss, quiet, line] = ["--gain", "--loss", "--quiet", "--line"].map(colour);
    this.chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: "transparent" }, textColor: quiet },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      rightPriceScale: { borderColor: line }, timeScale: { borderColor: line },
    });
    this.candles.applyOptions({
      upColor: gain, downColor: loss, wickUpColor: gain, wickDownColor: loss, borderVisible: false,
    });
  }

  // `history`: the answer of /history; `table`: that of /indicators with series=true.
  show(history, table) {
    const { timestamps, open, high, low, close } = history;
    const view = this.view();
    this.candles.setData(timestamps.map((time, i) => (
      { time, open: open[i], high: high[i], low: low[i], close: close[i] }
    )));
    for (const [name, series] of this.lines) {
      const found = table.series[name];
      LINES[name].forEach(({ output }, i) => series[i].setData(
        table.timestamps
          .map((time, row) => ({ time, value: found?.[output][row] }))
          .filter((point) => point.value !== null && point.value !== undefined),
      ));
    }
    this.times = [...timestamps];
    this.box.dataset.bars = String(timestamps.length);
    this.last = timestamps.at(-1) ?? 0;
    this.look(view);
  }

  // What part of the bars is looked at: null is all, as it begins, else what somebody chose.
  view() {
    const rows = this.chart.timeScale().getVisibleLogicalRange(), count = this.times.length;
    return !count || !rows || (rows.from < 1 && rows.to > count - 2) ? null : { rows, times: this.times };
  }

  // The same part of other bars: the newest stay in sight, older ones stay where they are.
  look(view) {
    const scale = this.chart.timeScale();
    if (!view) return scale.fitContent();
    const { rows, times } = view;
    const first = Math.min(times.length - 1, Math.max(0, Math.round(rows.from)));
    const found = this.times.indexOf(times[first]);
    const isAtEnd = rows.to > times.length - 2 || found < 0;
    const by = isAtEnd ? this.times.length - times.length : found - first;
    scale.setVisibleLogicalRange({ from: rows.from + by, to: rows.to + by });
  }

  clear() {
    this.candles.setData([]);
    for (const series of this.lines.values()) for (const one of series) one.setData([]);
    this.times = [];
    this.box.dataset.bars = "0";
    this.last = 0;
  }

  // The session under way; false where the session before it is not the last candle any more.
  price({ session, open, high, low, current_price: close }) {
    const time = Date.parse(`${session}T00:00:00Z`) / 1000;
    if (time < this.last || !this.last) return true;
    if (time - this.last > 5 * DAY_S) return false;
    this.candles.update({ time, open, high, low, close });
    if (time > this.last) this.box.dataset.bars = String(this.times.push(time));
    this.last = time;
    return true;
  }

  live({ values, bar }) {
    const time = Date.parse(bar.opened_at) / 1000;
    if (!this.last || time < this.last) return;
    for (const [name, series] of this.lines) {
      LINES[name].forEach(({ output }, i) => {
        const value = values[name]?.[output];
        if (value !== null && value !== undefined) series[i].update({ time, value });
      });
    }
  }

  toggle(name, visible) {
    for (const series of this.lines.get(name)) series.applyOptions({ visible });
  }
}
