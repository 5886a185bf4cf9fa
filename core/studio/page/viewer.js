// A viewer of one image or volume: numbers in original units, shown through a window of level and width.

export function showThumbnail(canvas, { width, height, colour, bytes }) {
  const values = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  paint(canvas, width, height, (pixel, channel) => values[colour ? 3 * pixel + channel : pixel]);
}

function paint(canvas, width, height, valueOf) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) image.data[4 * pixel + channel] = valueOf(pixel, channel);
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

export class Viewer {
  // `picture`: shape (slices, rows, columns), units, aspect, edges, windows, colour; `numbers`: Float32Array.
  constructor(figure, picture, numbers) {
    this.figure = figure;
    this.picture = picture;
    this.numbers = numbers;
    this.canvas = figure.querySelector("canvas");
    this.slice = Math.floor(picture.shape[0] / 2);
    const [slices, rows, columns] = picture.shape;
    this.canvas.style.aspectRatio = `${columns} / ${rows * picture.aspect}`;
    for (const [edge, letter] of Object.entries(picture.edges)) figure.querySelector(`.edge.${edge}`).textContent = letter;
    figure.querySelector(".controls").hidden = false;
    this.addWindows();
    this.addRange("slice", 0, slices - 1, 1, (value) => { this.slice = value; });
    figure.querySelector(".slices").hidden = slices === 1;
    if (picture.colour) for (const name of [".windows", ".level", ".width"]) figure.querySelector(name).closest("label").hidden = true;
    else this.followPointer();
    this.draw();
  }

  addWindows() {
    const select = this.figure.querySelector(".windows select");
    const names = Object.keys(this.picture.windows);
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.closest("label").hidden = names.length < 2;
    const all = Object.values(this.picture.windows);
    const low = Math.min(...all.map(([level, width]) => level - width / 2));
    const high = Math.max(...all.map(([level, width]) => level + width / 2));
    const step = (high - low) / 400;
    this.least = step;
    this.addRange("level", low, high, step, (value) => { this.level = value; });
    this.addRange("width", step, high - low, step, (value) => { this.width = value; });
    const choose = () => { [this.level, this.width] = this.picture.windows[select.value]; this.draw(); };
    select.addEventListener("change", choose);
    [this.level, this.width] = all[0];
  }

  addRange(name, min, max, step, set) {
    const range = this.figure.querySelector(`input.${name}`);
    Object.assign(range, { min, max, step });
    range.addEventListener("input", () => { set(Number(range.value)); this.draw(); });
  }

  followPointer() {
    let last = null;
    this.canvas.addEventListener("pointerdown", (event) => { last = event; this.canvas.setPointerCapture(event.pointerId); });
    this.canvas.addEventListener("pointerup", () => { last = null; });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      this.width = Math.max(this.least, this.width + (event.clientX - last.clientX) * this.least);
      this.level -= (event.clientY - last.clientY) * this.least;
      last = event;
      this.draw();
    });
  }

  draw() {
    const [slices, rows, columns] = this.picture.shape;
    const { colour } = this.picture;
    const start = this.slice * rows * columns * (colour ? 3 : 1);
    const low = this.level - this.width / 2;
    paint(this.canvas, columns, rows, (pixel, channel) =>
      colour ? this.numbers[start + 3 * pixel + channel] : ((this.numbers[start + pixel] - low) / this.width) * 255);
    const shown = { level: [this.level, ` ${unit(this.picture.units)}`], width: [this.width, ""], slice: [this.slice, ` of ${slices}`] };
    for (const [name, [value, after]] of Object.entries(shown)) {
      const range = this.figure.querySelector(`input.${name}`);
      range.value = value;
      const digits = name === "slice" ? value + 1 : Number(value.toPrecision(3));
      range.parentElement.querySelector("output").textContent = `${digits}${after}`;
    }
  }
}

function unit(units) {
  return units === "1" ? "" : units;
}
