// What was painted on a picture: strokes, which can be taken back, on a layer of colours and one that is the mask.

/** A colour that pictures rarely have: white would not be seen on snow. What is sent is white on black all the same. */
const MASK_COLOUR = "#ff3ea5";
const MASK_LEVELS = [0xff, 0x3e, 0xa5];

/** Two layers of the size of a picture, and the strokes that made them. */
export class Strokes {
  constructor(width, height) {
    Object.assign(this, { width, height, done: [], undone: [] });
    this.layers = { colour: this.#layer(), mask: this.#layer() };
  }

  #layer() {
    return Object.assign(document.createElement("canvas"), { width: this.width, height: this.height }).getContext(
      "2d",
      { willReadFrequently: false },
    );
  }

  /** Begins a stroke: {layer, isEraser, size, colour}; `extend` goes on with it. */
  begin(stroke, point) {
    this.current = { ...stroke, points: [point] };
    this.undone = [];
    this.done.push(this.current);
    this.#draw(this.current, 0);
  }

  extend(point) {
    if (!this.current) return;
    this.current.points.push(point);
    this.#draw(this.current, this.current.points.length - 2);
  }

  end() {
    this.current = null;
  }

  /** A whole mask at once: a picture whose white, or whose alpha, counts. */
  addMask(image) {
    this.undone = [];
    this.done.push({ layer: "mask", image });
    this.#draw(this.done.at(-1), 0);
  }

  clear() {
    if (!this.done.length || this.done.at(-1).isClear) return;
    this.undone = [];
    this.done.push({ isClear: true });
    this.#wipe();
  }

  undo() {
    if (!this.done.length) return;
    this.undone.push(this.done.pop());
    this.#replay();
  }

  redo() {
    if (!this.undone.length) return;
    this.done.push(this.undone.pop());
    this.#replay();
  }

  /** Whether a layer has, or had since it was cleared, anything on it. */
  has(layer) {
    const from = this.done.findLastIndex((stroke) => stroke.isClear);
    return this.done.slice(from + 1).some((stroke) => stroke.layer === layer && !stroke.isEraser);
  }

  #replay() {
    this.#wipe();
    for (const stroke of this.done) {
      if (stroke.isClear) this.#wipe();
      else this.#draw(stroke, 0);
    }
  }

  #wipe() {
    for (const layer of Object.values(this.layers)) layer.clearRect(0, 0, this.width, this.height);
  }

  #draw({ layer, isEraser, size, colour, points, image }, from) {
    const context = this.layers[layer];
    if (image) {
      context.drawImage(maskOf(image, this.width, this.height), 0, 0);
      return;
    }
    context.save();
    Object.assign(context, {
      lineCap: "round",
      lineJoin: "round",
      lineWidth: size,
      globalCompositeOperation: isEraser ? "destination-out" : "source-over",
    });
    context.strokeStyle = layer === "mask" ? MASK_COLOUR : colour;
    context.beginPath();
    context.moveTo(...points[Math.max(from, 0)]);
    for (const point of points.slice(Math.max(from, 0))) context.lineTo(...point);
    context.stroke();
    context.restore();
  }

  /** The mask as a PNG, white on black, or null where nothing is masked. */
  async mask() {
    if (!this.has("mask")) return null;
    const white = this.#layer();
    white.drawImage(this.layers.mask.canvas, 0, 0);
    this.#fill(white, "#fff", "source-in");
    const context = this.#layer();
    this.#fill(context, "#000");
    context.drawImage(white.canvas, 0, 0);
    return png(context.canvas);
  }

  #fill(context, fillStyle, globalCompositeOperation = "source-over") {
    Object.assign(context, { fillStyle, globalCompositeOperation });
    context.fillRect(0, 0, this.width, this.height);
  }

  /** The picture with the colours on it, as a PNG, or null where nothing was painted. */
  async painted(image) {
    if (!this.has("colour")) return null;
    const context = this.#layer();
    context.drawImage(image, 0, 0, this.width, this.height);
    context.drawImage(this.layers.colour.canvas, 0, 0);
    return png(context.canvas);
  }
}

/** A picture as a layer: opaque where it is light, or where it is opaque itself if it has holes. */
function maskOf(image, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  const { data } = pixels;
  const hasHoles = data.some((value, at) => at % 4 === 3 && value < 255);
  for (let at = 0; at < data.length; at += 4) {
    if (!hasHoles) data[at + 3] = Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
    data.set(MASK_LEVELS, at);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

const png = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
