// Work that is kept over a reload, in the browser's own database: pictures, what is painted, and its strokes.
//   work.get(name) -> value or null; work.put(name, value): null forgets it. A browser that keeps nothing loses it with the page.

const STORE = "work";

const opened = new Promise((resolve) => {
  try {
    const asked = indexedDB.open("sumi", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = asked.onblocked = () => resolve(null);
  } catch {
    resolve(null); // where a browser forbids it, it throws
  }
});

async function within(mode, act) {
  const database = await opened;
  if (!database) return null;
  return new Promise((resolve) => {
    try {
      const asked = act(database.transaction(STORE, mode).objectStore(STORE));
      asked.onsuccess = () => resolve(asked.result ?? null);
      asked.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
}

export const work = {
  get: (name) => within("readonly", (store) => store.get(name)),
  put: (name, value) => within("readwrite", (store) => value === null ? store.delete(name) : store.put(value, name)),
};
