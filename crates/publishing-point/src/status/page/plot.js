// A plot of bit rates: the last two minutes, drawn as SVG, with axes that say their units.

const SVG = "http://www.w3.org/2000/svg";
export const SECONDS = 120;
const HEIGHT = 132;
const LEFT = 72;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 20;
const UNITS = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
// Upper ends of the axis, in each power of ten: halves of them are short numbers too.
const ENDS = [1, 2, 3, 4, 6, 8, 10];

function scaled(bits) {
  let unit = 0;
  while (bits >= 999.5 && unit < UNITS.length - 1) {
    bits /= 1000;
    unit += 1;
  }
  return { value: bits, unit: UNITS[unit], digits: unit === 0 || bits >= 100 ? 0 : bits >= 10 ? 1 : 2 };
}

// A rate with three digits, or as many as its unit needs.
export function rate(bits) {
  const { value, unit, digits } = scaled(bits);
  return `${value.toFixed(digits)} ${unit}`;
}

// The label of an axis: the same without needless zeros.
function mark(bits) {
  const { value, unit, digits } = scaled(bits);
  return bits === 0 ? "0" : `${Number(value.toFixed(digits))} ${unit}`;
}

function upperEnd(most) {
  let power = 1000;
  while (power * 10 < most) power *= 10;
  return power * ENDS.find((end) => power * end >= most);
}

function make(parent, name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent.appendChild(element);
}

export class Plot {
  constructor(place, what) {
    this.what = what;
    this.values = [];
    this.svg = make(place, "svg", { class: "plot", role: "img" });
    this.lines = [0, 1, 2].map(() => make(this.svg, "line", { class: "grid" }));
    this.marks = [0, 1, 2].map(() => make(this.svg, "text", { "text-anchor": "end" }));
    this.times = [0, 1, 2].map(() => make(this.svg, "text", {}));
    this.area = make(this.svg, "path", { class: "area" });
    this.line = make(this.svg, "path", { class: "line" });
    this.last = make(this.svg, "circle", { class: "last", r: 3 });
    new ResizeObserver(() => this.draw()).observe(place);
  }

  // The rates of the last seconds in bit/s, the newest last.
  show(values) {
    this.values = values;
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth;
    if (width <= LEFT + RIGHT) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const values = this.values.slice(-SECONDS);
    const most = upperEnd(Math.max(1, ...values));
    const now = values.at(-1) ?? 0;
    const x = (index) => LEFT + ((width - LEFT - RIGHT) * (SECONDS - values.length + index)) / (SECONDS - 1);
    const y = (bits) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - bits / most);

    [0, most / 2, most].forEach((bits, index) => {
      const at = Math.round(y(bits)) + 0.5;
      const ends = { x1: LEFT, x2: width - RIGHT, y1: at, y2: at };
      for (const [key, value] of Object.entries(ends)) this.lines[index].setAttribute(key, value);
      this.marks[index].setAttribute("x", LEFT - 8);
      this.marks[index].setAttribute("y", at + 4);
      this.marks[index].textContent = mark(bits);
    });
    [["2 min ago", LEFT, "start"], ["1 min", (LEFT + width - RIGHT) / 2, "middle"], ["now", width - RIGHT, "end"]]
      .forEach(([text, at, anchor], index) => {
        this.times[index].setAttribute("x", at);
        this.times[index].setAttribute("y", HEIGHT - 4);
        this.times[index].setAttribute("text-anchor", anchor);
        this.times[index].textContent = text;
      });

    const points = values.map((bits, index) => `${x(index).toFixed(1)} ${y(bits).toFixed(1)}`);
    const path = points.length > 1 ? `M${points.join("L")}` : "";
    this.line.setAttribute("d", path);
    this.area.setAttribute("d", path && `${path}V${y(0)}H${x(0).toFixed(1)}Z`);
    this.last.setAttribute("visibility", points.length > 0 ? "visible" : "hidden");
    this.last.setAttribute("cx", x(values.length - 1));
    this.last.setAttribute("cy", y(now));
    const peak = rate(Math.max(0, ...values));
    this.svg.setAttribute("aria-label", `${this.what}: ${rate(now)} now, maximum ${peak} in the last two minutes`);
  }
}
