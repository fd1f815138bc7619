// Where a sheet lies on a canvas: pixels of the sheet to pixels of the device, and back. Zoomed about a point, moved, fitted.

const LARGEST = 64; // device pixels for one of the sheet

export class View {
  scale = 1; // device pixels for one of the sheet
  x = 0; // of the sheet's upper left corner, on the device
  y = 0;
  #fitted = true; // until someone zooms or moves
  #room = { width: 1, height: 1, left: 0, top: 0, right: 1, bottom: 1, rim: 0 };

  get fitted() {
    return this.#fitted;
  }

  /** All of a rectangle of the sheet into a canvas of width by height, with a rim. */
  fit(room = this.#room) {
    this.#room = room;
    this.#fitted = true;
    const { width, height, left, top, right, bottom, rim } = room;
    this.scale = Math.max(1e-3, Math.min((width - 2 * rim) / (right - left), (height - 2 * rim) / (bottom - top)));
    this.x = Math.round((width - this.scale * (left + right)) / 2);
    this.y = Math.round((height - this.scale * (top + bottom)) / 2);
  }

  /** The canvas, or what is on it, has another size: what was fitted is fitted again. */
  refit(room) {
    if (this.#fitted) return this.fit(room);
    const [x, y] = this.to(this.#room.width / 2, this.#room.height / 2);
    this.#room = room;
    [this.x, this.y] = [room.width / 2 - x * this.scale, room.height / 2 - y * this.scale];
    this.#held();
  }

  /** So many times as large, about a point of the canvas. */
  zoom(by, at = { x: this.#room.width / 2, y: this.#room.height / 2 }) {
    const { width, height, left, right, top, bottom } = this.#room;
    const least = Math.min(width / (right - left), height / (bottom - top)) / 2;
    const scale = Math.min(Math.max(this.scale * by, least), LARGEST * devicePixelRatio);
    this.x = at.x - (at.x - this.x) * scale / this.scale;
    this.y = at.y - (at.y - this.y) * scale / this.scale;
    this.scale = scale;
    this.#fitted = false;
    this.#held();
  }

  move(x, y) {
    this.x += x;
    this.y += y;
    this.#fitted = false;
    this.#held();
  }

  /** A point of the canvas, on the sheet. */
  to(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /** A point of the sheet, on the canvas. */
  from(x, y) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  // The middle of the canvas always shows some of the sheet.
  #held() {
    const { width, height, left, top, right, bottom } = this.#room;
    this.x = Math.min(Math.max(this.x, width / 2 - right * this.scale), width / 2 - left * this.scale);
    this.y = Math.min(Math.max(this.y, height / 2 - bottom * this.scale), height / 2 - top * this.scale);
  }
}
