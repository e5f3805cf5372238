// What of a picture a canvas shows: how large, and where it lies.

const MOST_ZOOM = 16;
const MASK_OPACITY = 0.55;
const RING = [
  { width: 3, colour: "#000" },
  { width: 1.2, colour: "#fff" },
];

/** The place of a picture in a canvas, in pixels of the screen. */
export class View {
  constructor(canvas) {
    Object.assign(this, { canvas, image: null, scale: 1, x: 0, y: 0 });
  }

  /** A place of the screen in the picture's pixels. */
  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [(event.clientX - left - this.x) / this.scale, (event.clientY - top - this.y) / this.scale];
  }

  /** Enlarges around a place of the screen, or the canvas' middle. */
  zoom(factor, event = null) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const [x, y] = event ? [event.clientX - left, event.clientY - top] : [width / 2, height / 2];
    const scale = Math.min(Math.max(this.scale * factor, this.#fitting / 2), MOST_ZOOM);
    const change = scale / this.scale;
    Object.assign(this, { scale, x: x - (x - this.x) * change, y: y - (y - this.y) * change });
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
  }

  /** Shows the whole picture. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!this.image || !width) return;
    const scale = this.#fitting;
    Object.assign(this, {
      scale,
      x: (width - this.image.width * scale) / 2,
      y: (height - this.image.height * scale) / 2,
    });
  }

  get #fitting() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return Math.min(width / this.image.width, height / this.image.height, MOST_ZOOM);
  }

  /** Draws the picture with what was painted on it, and the brush's ring. */
  draw(strokes, cursor, size) {
    const { canvas, scale, x, y } = this;
    const ratio = devicePixelRatio;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    if (!this.image) return;
    const context = canvas.getContext("2d");
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
    context.imageSmoothingEnabled = scale < 3;
    context.drawImage(this.image, 0, 0);
    context.drawImage(strokes.layers.colour.canvas, 0, 0);
    context.globalAlpha = MASK_OPACITY;
    context.drawImage(strokes.layers.mask.canvas, 0, 0);
    context.globalAlpha = 1;
    if (cursor) this.#ring(context, cursor, size);
  }

  #ring(context, cursor, size) {
    for (const { width, colour } of RING) {
      context.beginPath();
      context.arc(...cursor, size / 2, 0, 2 * Math.PI);
      Object.assign(context, { lineWidth: width / this.scale, strokeStyle: colour });
      context.stroke();
    }
  }
}
