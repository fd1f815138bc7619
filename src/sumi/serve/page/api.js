// The server, as the page speaks to it.
//   api.get(path, {signal}), api.post(path, body), api.put(path), api.del(path) -> what the reply says. What a signal calls off throws
//     that signal's reason.
//   api.upload(blob), api.read(blob): the bytes of a picture
//   All throw ApiError {message, code, param, status}; status 0: sumi cannot be reached.
//   unique(): a name that nothing else has
//   Seeds have up to 64 bits, more than a number here holds: whole numbers beyond that are read as text, and a seed that is text is sent as
//   a number.
//   listen(path, {event(kind, data, id), up(), down(error)}) -> stop(): server-sent events, taken up again after the last one seen. up: at
//     each connection; down: when there is none any more. A stream that ends is asked for again: call stop() once nothing more is awaited.

export class ApiError extends Error {
  constructor(message, { code = null, param = null, status = 0 } = {}) {
    super(message);
    Object.assign(this, { name: "ApiError", code, param, status });
  }
}

// What browsers have for it, they have not on pages that came over plain http from another machine.
export const unique = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const TEXT_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const SEED_AS_TEXT = /"(?:[^"\\]|\\.)*"/g;

// JSON, both ways, without the loss of a digit.
export const readJson = (text) => JSON.parse(text.replace(TEXT_OR_NUMBER, (part) => /^-?\d{16,}$/.test(part) ? `"${part}"` : part));
export function writeJson(value) {
  const seeds = [];
  const mark = unique();
  const text = JSON.stringify(value, (key, part) => {
    if (!["seed", "variation_seed"].includes(key) || typeof part !== "string" || !/^\d+$/.test(part)) return part;
    seeds.push(BigInt(part).toString());
    return mark + (seeds.length - 1);
  });
  return text.replace(SEED_AS_TEXT, (part) => part.startsWith(`"${mark}`) ? seeds[part.slice(mark.length + 1, -1)] : part);
}

const unreachable = () => new ApiError("sumi cannot be reached: is it still running?", { code: "unreachable" });

async function refusal(reply) {
  try {
    const { error } = readJson(await reply.text());
    return new ApiError(error.message, { ...error, status: reply.status });
  } catch {
    return new ApiError(`sumi answered ${reply.status} ${reply.statusText}`.trim(), { status: reply.status });
  }
}

async function ask(method, path, { body, headers = {}, signal } = {}) {
  let reply, text;
  try {
    reply = await fetch(path, { method, body, headers, signal, cache: "no-store", redirect: "error" });
    if (reply.ok) text = await reply.text();
  } catch {
    throw signal?.aborted ? signal.reason : unreachable();
  }
  if (!reply.ok) throw await refusal(reply);
  return text ? readJson(text) : null;
}

const bytes = (blob) => ({ body: blob, headers: { "Content-Type": blob.type || "image/png" } });

export const api = {
  get: (path, { signal } = {}) => ask("GET", path, { signal }),
  post: (path, body = {}, headers = {}) =>
    ask("POST", path, { body: writeJson(body), headers: { "Content-Type": "application/json", ...headers } }),
  put: (path) => ask("PUT", path),
  del: (path) => ask("DELETE", path),
  upload: (blob) => ask("POST", "/v1/uploads", bytes(blob)),
  read: (blob) => ask("POST", "/v1/read", bytes(blob)),
};

const SILENCE = 30_000;   // three times as long as the server ever is: then the connection is gone, though nobody said so
const SOONEST = 250, LATEST = 4_000;

async function* messages(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const message = { event: "message", data: "", id: null };
      for (const line of block.split(/\r?\n/)) {
        const [, name, told] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (name === "data") message.data += message.data ? `\n${told}` : told;
        else if (name === "event" || name === "id") message[name] = told;
      }
      if (message.data) yield message;
    }
  }
}

// EventSource gives up for good at the first reply that is not 200, and knows no silence: so it is done by hand. A tab that nobody sees
// lets go of its connection after a while, since a browser holds but six of them to one server.
export function listen(path, { event, up, down }) {
  let last = null, stopped = false, connected = null, why = null, controller = null, alarm, wake = () => {};
  const drop = () => controller?.abort();
  const heard = () => { clearTimeout(alarm); alarm = setTimeout(drop, SILENCE); };
  const pause = (time) => new Promise((resolve) => { wake = resolve; setTimeout(resolve, time); });
  const lost = (error) => {
    if (connected !== false || why !== error.status) down?.(error);
    connected = false;
    why = error.status;
  };
  let hiding;
  const seen = () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(drop, 30_000);
    else wake();
  };
  const online = () => wake();
  document.addEventListener("visibilitychange", seen);
  addEventListener("online", online);
  addEventListener("offline", drop);

  (async () => {
    for (let wait = SOONEST; !stopped; wait = Math.min(2 * wait, LATEST)) {
      if (document.hidden && connected !== null) {
        await pause(2 ** 30);
        if (stopped) return;
      }
      controller = new AbortController();
      heard();
      let error = null;   // a stream that ends as it should is only asked for again
      try {
        const headers = { Accept: "text/event-stream", ...(last !== null && { "Last-Event-ID": last }) };
        const reply = await fetch(path, { headers, cache: "no-store", signal: controller.signal });
        if (!reply.ok) throw await refusal(reply);
        wait = SOONEST / 2;
        connected = true;
        up?.();
        for await (const message of messages(reply.body, heard)) {
          if (message.id !== null) last = message.id;
          event(message.event, readJson(message.data), message.id);
          if (stopped) return;
        }
      } catch (thrown) {
        error = thrown instanceof ApiError ? thrown : unreachable();
      }
      clearTimeout(alarm);
      if (stopped) return;
      if (error && !document.hidden) lost(error);
      await pause(wait);
    }
  })();

  return () => {
    stopped = true;
    clearTimeout(alarm);
    clearTimeout(hiding);
    document.removeEventListener("visibilitychange", seen);
    removeEventListener("online", online);
    removeEventListener("offline", drop);
    drop();
    wake();
  };
}
