// A picture in a window on it: as large as fits, pixel by pixel, or nearer, and moved about. By wheel, pointer, two fingers and keys.
//   new Zoom(port, stage, {changed(), turned(by)}): `stage`, in `port`, holds the picture and takes its size; turned: by a swipe, +1 or -1
//   .of(width, height): another picture; .fit(), .actual(), .by(factor), .move(right, down); .percent, .fitted, .near
// A percent is of the pixels of the screen: at 100 each pixel of the picture is one of those.
const NEAREST = 64;        // pixels of the screen for one of the picture
const SMALL = 256;         // shortest side of pictures whose pixels are shown as they are as soon as they are enlarged
const CRISP = 4;           // the enlargement from which those of any picture are
const SWIPE = 48;

export class Zoom {
  fitted = true;
  #width = 1;
  #height = 1;
  #scale = 1;
  #x = 0;
  #y = 0;
  #pointers = new Map();
  #from = null;

  constructor(port, stage, { changed, turned }) {
    Object.assign(this, { port, stage, changed, turned });
    new ResizeObserver(() => { if (this.fitted) this.fit(); else this.#place(); }).observe(port);
    port.addEventListener("wheel", (event) => this.#wheeled(event), { passive: false });
    port.addEventListener("pointerdown", (event) => this.#down(event));
    port.addEventListener("pointermove", (event) => this.#dragged(event));
    for (const name of ["pointerup", "pointercancel"]) port.addEventListener(name, (event) => this.#up(event));
    port.addEventListener("dblclick", (event) => {
      if (!this.fitted) return this.fit();
      this.#to(Math.max(1 / devicePixelRatio, 2 * this.#scale), ...this.#at(event));
    });
  }

  get percent() { return Math.round(100 * this.#scale * devicePixelRatio); }
  get near() { return this.#width * this.#scale > this.port.clientWidth + 1 || this.#height * this.#scale > this.port.clientHeight + 1; }

  of(width, height) {
    this.#width = width;
    this.#height = height;
    this.fit();
  }

  // Enlarged by whole numbers alone, so that all pixels are of one size.
  get #fitting() {
    const most = Math.min(this.port.clientWidth / this.#width, this.port.clientHeight / this.#height) * devicePixelRatio;
    return (most > 1 ? Math.floor(most) : most) / devicePixelRatio;
  }

  fit() {
    if (!this.port.clientWidth) return;
    this.fitted = true;
    this.#scale = this.#fitting;
    this.#place();
  }

  actual() { this.#to(1 / devicePixelRatio); }
  by(factor) { this.#to(this.#scale * factor); }

  move(right, down) {
    this.#x += right;
    this.#y += down;
    this.#place();
  }

  #to(scale, x = this.port.clientWidth / 2, y = this.port.clientHeight / 2) {
    const least = Math.min(1 / devicePixelRatio, this.#fitting);
    const next = Math.min(Math.max(scale, least), NEAREST / devicePixelRatio), factor = next / this.#scale;
    this.fitted = Math.abs(next - this.#fitting) < 1e-6;
    this.#x = x - (x - this.#x) * factor;
    this.#y = y - (y - this.#y) * factor;
    this.#scale = next;
    this.#place();
  }

  #place() {
    const within = (at, size, room) => size <= room ? Math.round((room - size) / 2) : Math.min(0, Math.max(room - size, at));
    const [width, height] = [this.#width * this.#scale, this.#height * this.#scale];
    this.#x = within(this.#x, width, this.port.clientWidth);
    this.#y = within(this.#y, height, this.port.clientHeight);
    Object.assign(this.stage.style, { width: `${width}px`, height: `${height}px`, transform: `translate(${this.#x}px, ${this.#y}px)` });
    const by = this.#scale * devicePixelRatio;
    this.stage.classList.toggle("crisp", by > 1 && (by >= CRISP || Math.min(this.#width, this.#height) < SMALL));
    this.port.classList.toggle("near", this.near);
    this.changed();
  }

  #at({ clientX, clientY }) {
    const box = this.port.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  }

  #wheeled(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const turn = Math.max(-240, Math.min(event.deltaY * lines, 240));
    this.#to(this.#scale * Math.exp(-turn * (event.ctrlKey ? 0.01 : 0.0025)), ...this.#at(event));
  }

  #down(event) {
    if (event.button > 0 || event.target.closest("button, input")) return;
    this.#pointers.set(event.pointerId, this.#at(event));
    this.port.setPointerCapture(event.pointerId);
    this.#from = this.#pointers.size === 1 ? this.#at(event) : null;
  }

  #dragged(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#at(event);
    if (this.#pointers.size === 2) {
      const [other] = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]);
      this.#to(this.#scale * apart(now) / Math.max(apart(before), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (this.near) this.move(now[0] - before[0], now[1] - before[1]);
    this.#pointers.set(event.pointerId, now);
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId) || !this.#from) return;
    const [x, y] = this.#at(event), [right, down] = [x - this.#from[0], y - this.#from[1]];
    this.#from = null;
    const swipe = event.type === "pointerup" && event.pointerType === "touch" && this.fitted && !this.near;
    if (swipe && Math.abs(right) > SWIPE && Math.abs(right) > 2 * Math.abs(down)) this.turned(right < 0 ? 1 : -1);
  }
}
