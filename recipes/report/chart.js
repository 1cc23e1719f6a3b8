"use strict";
// A line chart in SVG: zoom by dragging, read-out by pointing, tapping or arrow keys. Colours come from CSS classes.

const number = (value) => {
  const size = Math.abs(value);
  if (size === 0) return "0";
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= unit && size < 1e15 && size >= 1e4) return +(value / unit).toPrecision(4) + "\u202f" + letter;
  if (size >= 1e15 || size < 1e-3) {
    const [mantissa, exponent] = value.toExponential(2).split("e");
    const raised = String(+exponent).replace(/./g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit] ?? "⁻");
    return +mantissa + "×10" + raised;
  }
  return String(+value.toPrecision(4));
};

const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const ticks = (low, high, wanted) => {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((of) => of * power).find((of) => of >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
};

// The index of the point of a series whose x is nearest.
const nearest = (points, x) => {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle; else high = middle;
  }
  return x - points[low][0] <= points[high][0] - x ? low : high;
};

const MARKS = [
  (x, y) => `M${x - 2.6} ${y}a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0 -5.2 0z`,
  (x, y) => `M${x - 2.4} ${y - 2.4}h4.8v4.8h-4.8z`,
  (x, y) => `M${x} ${y - 3.2}l3 5.4h-6z`,
  (x, y) => `M${x} ${y - 3.4}l3.2 3.4l-3.2 3.4l-3.2 -3.4z`,
];

class Chart {
  // A series is {name, style, dash, mark, faint, points: [[x, y], ...]}; a faint one has no read-out.
  constructor(host, label) {
    this.host = host;
    this.height = +host.dataset.height;
    this.series = [];
    this.range = null;
    this.at = null;
    this.linked = [this];
    this.onzoom = () => {};
    host.tabIndex = 0;
    host.setAttribute("role", "group");
    host.setAttribute("aria-label", label);
    host.innerHTML = '<svg aria-hidden="true"></svg><div class="read" role="status" hidden></div>';
    [this.svg, this.read] = host.children;
    this.listen();
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(host);
  }

  show(series, unit) {
    this.series = series.filter((one) => one.points.length);
    this.unit = unit;
    this.at = null;
    this.draw();
  }

  // Shows a range of x, or everything, on all linked charts.
  zoom(range) {
    for (const chart of this.linked) {
      chart.range = range;
      chart.at = null;
      chart.draw();
    }
    this.onzoom(range);
  }

  point(x) {
    for (const chart of this.linked) {
      chart.at = x;
      chart.readout(chart === this);
    }
  }

  extent() {
    const xs = this.series.flatMap((one) => [one.points[0][0], one.points[one.points.length - 1][0]]);
    const whole = [Math.min(...xs), Math.max(...xs)];
    const [low, high] = this.range ?? (whole[0] === whole[1] ? [whole[0] - 1, whole[1] + 1] : whole);
    let bottom = Infinity, top = -Infinity;
    for (const one of this.series)
      for (const [x, y] of one.points)
        if (x >= low && x <= high) {
          bottom = Math.min(bottom, y);
          top = Math.max(top, y);
        }
    if (bottom > top) [bottom, top] = [0, 1];
    const margin = (top - bottom || Math.abs(top) || 1) * 0.05;
    return {low, high, bottom: bottom >= 0 && bottom < margin * 2 ? 0 : bottom - margin, top: top + margin};
  }

  draw() {
    const width = this.host.clientWidth, height = this.height;
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!this.series.length) {
      this.svg.innerHTML = `<text class="axis" x="12" y="24">nothing to show</text>`;
      this.read.hidden = true;
      return;
    }
    const {low, high, bottom, top} = this.extent();
    const box = (this.box = {left: 52, right: width - 10, top: 8, bottom: height - 22, low, high});
    this.x = (x) => box.left + ((x - low) / (high - low)) * (box.right - box.left);
    this.y = (y) => box.bottom - ((y - bottom) / (top - bottom)) * (box.bottom - box.top);
    const parts = [`<clipPath id="in-${this.host.id}"><rect x="${box.left - 4}" y="0" width="${box.right - box.left + 8}" height="${height}"/></clipPath>`];
    for (const at of ticks(bottom, top, Math.max(height / 55, 3))) {
      const y = this.y(at).toFixed(1);
      parts.push(`<path class="grid" d="M${box.left} ${y}H${box.right}"/><text class="axis" x="${box.left - 6}" y="${+y + 4}" text-anchor="end">${number(at)}</text>`);
    }
    for (const at of ticks(low, high, width / 110)) {
      const x = this.x(at).toFixed(1);
      if (x < width - 18) parts.push(`<path class="tick" d="M${x} ${box.bottom}v4"/><text class="axis" x="${x}" y="${height - 5}" text-anchor="middle">${number(at)}</text>`);
    }
    parts.push(`<path class="floor" d="M${box.left} ${box.bottom}H${box.right}"/><g clip-path="url(#in-${this.host.id})">`);
    for (const one of this.series) parts.push(this.line(one));
    parts.push(`</g><g class="cursor"></g><rect class="drag" y="${box.top}" height="${box.bottom - box.top}" width="0"/>`);
    this.svg.innerHTML = parts.join("");
    this.readout(false);
  }

  line(one) {
    const {low, high} = this.box, marks = [];
    let path = "";
    one.points.forEach(([x, y], index) => {
      const before = one.points[Math.max(index - 1, 0)][0], after = one.points[Math.min(index + 1, one.points.length - 1)][0];
      if (after < low || before > high) return;
      const at = [this.x(x).toFixed(1), this.y(y).toFixed(1)];
      path += (path ? "L" : "M") + at.join(" ");
      if (one.mark !== undefined && x >= low && x <= high) marks.push(MARKS[one.mark % MARKS.length](+at[0], +at[1]));
    });
    if (one.points.length === 1 && one.mark === undefined) marks.push(MARKS[0](this.x(one.points[0][0]), this.y(one.points[0][1])));
    const dots = marks.length && marks.length < 200 ? `<path class="mark ${one.style}" d="${marks.join("")}"/>` : "";
    return `<path class="line ${one.style}${one.faint ? " faint" : ""}${one.mark === undefined ? "" : " thin"}" stroke-dasharray="${one.dash ?? ""}" d="${path}"/>${dots}`;
  }

  // The values nearest to `at`, beside the cursor; with `told`, in the box too.
  readout(told) {
    const cursor = this.svg.querySelector(".cursor");
    this.read.hidden = true;
    if (!cursor) return;
    cursor.innerHTML = "";
    if (this.at === null || this.at < this.box.low || this.at > this.box.high) return;
    const slack = (this.box.high - this.box.low) * 0.01;
    const found = [];
    for (const one of this.series) {
      const last = one.points[one.points.length - 1][0];
      if (one.faint || this.at < one.points[0][0] - slack || this.at > last + slack) continue;
      const [x, y] = one.points[nearest(one.points, this.at)];
      if (x >= this.box.low && x <= this.box.high) found.push({one, x, y});
    }
    const at = this.x(this.at);
    const dots = found.map(({one, x, y}) => `<circle class="${one.style}" r="3.5" cx="${this.x(x)}" cy="${this.y(y)}"/>`);
    cursor.innerHTML = `<path d="M${at} ${this.box.top}V${this.box.bottom}"/>${dots.join("")}`;
    if (!told) return;
    found.sort((a, b) => b.y - a.y);
    const rows = found.slice(0, 14).map(({one, y}) => `<div><i class="${one.style}"></i>${escaped(one.name)}<b>${number(y)}</b></div>`);
    const more = found.length > 14 ? `<div>and ${found.length - 14} more</div>` : "";
    this.read.innerHTML = `<p>${number(Math.round(this.at))} ${escaped(this.unit)}</p>${rows.join("")}${more}`;
    this.read.hidden = false;
    const room = this.host.clientWidth - this.read.offsetWidth;
    this.read.style.left = Math.max(0, Math.min(room, at > room / 2 + 26 ? at - this.read.offsetWidth - 14 : at + 14)) + "px";
  }

  listen() {
    const value = (event) => {
      const {left, right, low, high} = this.box;
      const x = event.clientX - this.host.getBoundingClientRect().left;
      return low + ((Math.min(Math.max(x, left), right) - left) / (right - left)) * (high - low);
    };
    let from = null, tapped = 0;
    const drag = (low, high) => {
      const mark = this.svg.querySelector(".drag");
      mark.setAttribute("x", this.x(low));
      mark.setAttribute("width", Math.max(this.x(high) - this.x(low), 0));
    };
    this.host.addEventListener("pointerdown", (event) => {
      if (!this.series.length || event.button) return;
      from = value(event);
      this.host.setPointerCapture(event.pointerId);
    });
    this.host.addEventListener("pointermove", (event) => {
      if (!this.series.length) return;
      const to = value(event);
      if (from !== null) drag(Math.min(from, to), Math.max(from, to));
      this.point(to);
    });
    this.host.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const to = value(event), ends = [Math.min(from, to), Math.max(from, to)];
      from = null;
      if (this.x(ends[1]) - this.x(ends[0]) > 8) return this.zoom(ends);
      drag(0, 0);
      this.point(to);
      if (event.timeStamp - tapped < 350) this.zoom(null);
      tapped = event.timeStamp;
    });
    this.host.addEventListener("pointercancel", () => { from = null; if (this.series.length) this.draw(); });
    this.host.addEventListener("blur", () => this.point(null));
    this.host.addEventListener("pointerleave", (event) => {
      if (from === null && event.pointerType !== "touch") this.point(null);
    });
    this.host.addEventListener("keydown", (event) => {
      if (!this.series.length || event.ctrlKey || event.metaKey || event.altKey) return;
      const {low, high} = this.box, middle = this.at ?? (low + high) / 2, size = high - low;
      const within = (at) => Math.min(Math.max(at, low), high);
      const keys = {
        ArrowRight: () => this.point(within(middle + size / 50)),
        ArrowLeft: () => this.point(within(middle - size / 50)),
        "+": () => { this.zoom([middle - size / 4, middle + size / 4]); this.point(middle); },
        "-": () => { this.zoom([middle - size, middle + size]); this.point(middle); },
        0: () => this.zoom(null),
        Escape: () => this.zoom(null),
      };
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}
