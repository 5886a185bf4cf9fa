// A viewer of one image or volume: numbers in original units, shown through a window of level and width.

// The numbers of a preview, which has a byte for each.
export function numbersOf({ low, step, bytes }) {
  return Float32Array.from(atob(bytes), (letter) => low + letter.charCodeAt(0) * step);
}

export class Viewer {
  // `picture`: shape (slices, rows, columns), units, aspect, edges, windows, colour.
  constructor(figure, picture) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.slice = null; // the middle one, until another is chosen
    for (const [edge, letter] of Object.entries(picture.edges)) figure.querySelector(`.edge.${edge}`).textContent = letter;
    this.addWindows(picture.windows);
    this.addRange("slice", { min: 0, step: 1 }, (value) => { this.slice = value; });
    if (picture.colour) for (const name of [".windows", ".level", ".width"]) figure.querySelector(name).closest("label").hidden = true;
    else this.followPointer();
  }

  show(picture, numbers) {
    this.picture = picture;
    this.numbers = numbers;
    const [slices, rows, columns] = picture.shape;
    this.canvas.style.aspectRatio = `${columns} / ${rows * picture.aspect}`;
    this.figure.querySelector("input.slice").max = slices - 1;
    this.figure.querySelector(".slices").hidden = slices === 1;
    this.draw();
  }

  addWindows(windows) {
    const select = this.figure.querySelector(".windows select");
    const names = Object.keys(windows);
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.closest("label").hidden = names.length < 2;
    const all = Object.values(windows);
    const low = Math.min(...all.map(([level, width]) => level - width / 2));
    const high = Math.max(...all.map(([level, width]) => level + width / 2));
    const step = (high - low) / 400;
    this.least = step;
    this.addRange("level", { min: low, max: high, step }, (value) => { this.level = value; });
    this.addRange("width", { min: step, max: high - low, step }, (value) => { this.width = value; });
    select.addEventListener("change", () => { [this.level, this.width] = windows[select.value]; this.draw(); });
    [this.level, this.width] = all[0];
  }

  addRange(name, settings, set) {
    const range = this.figure.querySelector(`input.${name}`);
    Object.assign(range, settings);
    range.addEventListener("input", () => { set(Number(range.value)); this.draw(); });
  }

  // Up and down change the level, left and right the width.
  followPointer() {
    let last = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      last = event;
      this.canvas.setPointerCapture(event.pointerId);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) this.canvas.addEventListener(end, () => { last = null; });
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
    const slice = Math.min(this.slice ?? Math.floor(slices / 2), slices - 1);
    this.paint(slice, rows, columns);
    this.say("level", this.level, `${rounded(this.level)} ${unit(this.picture.units)}`);
    this.say("width", this.width, `${rounded(this.width)} ${unit(this.picture.units)}`);
    this.say("slice", slice, `${slice + 1} of ${slices}`);
  }

  paint(slice, rows, columns) {
    const { colour } = this.picture;
    const start = slice * rows * columns * (colour ? 3 : 1);
    const low = this.level - this.width / 2;
    this.canvas.width = columns;
    this.canvas.height = rows;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(columns, rows); // clamps and rounds what is assigned
    for (let pixel = 0; pixel < rows * columns; pixel += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        image.data[4 * pixel + channel] = colour
          ? this.numbers[start + 3 * pixel + channel]
          : ((this.numbers[start + pixel] - low) / this.width) * 255;
      }
      image.data[4 * pixel + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  say(name, value, text) {
    const range = this.figure.querySelector(`input.${name}`);
    range.value = value;
    range.setAttribute("aria-valuetext", text);
    range.parentElement.querySelector("output").textContent = text;
  }
}

function rounded(value) {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

function unit(units) {
  return units === "1" ? "" : units;
}
