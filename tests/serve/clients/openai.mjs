// Asks a studio for pictures through OpenAI's client, and prints what came back as one JSON object.
// Arguments: the studio's address, its key, and a folder with image.png and mask.png.
import { createReadStream } from "node:fs";
import { join } from "node:path";
import OpenAI, { toFile } from "openai";

const [url, key, folder] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const file = (name) => createReadStream(join(folder, `${name}.png`));
const usual = { prompt: "a red circle", num_inference_steps: 4, seed: 7 };

async function gathered(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code, param: error.param, message: error.message };
  }
  return null;
}

const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "not the key of this studio", maxRetries: 0 });
const told = {
  models: (await client.models.list()).data.map((model) => model.id),
  made: await client.images.generate({ ...usual, n: 2 }),
  linked: await client.images.generate({ ...usual, response_format: "url" }),
  edited: await client.images.edit({ ...usual, image: file("image"), mask: file("mask") }),
  several: await refused(client.images.edit({ ...usual, image: [file("image"), await toFile(file("mask"), "mask.png")] })),
  varied: await client.images.createVariation({ image: file("image"), num_inference_steps: 4, seed: 7 }),
  streamed: await gathered(await client.images.generate({ ...usual, stream: true, partial_images: 2 })),
  editing: await gathered(await client.images.edit({ ...usual, image: file("image"), stream: true })),
  size: await refused(client.images.generate({ ...usual, size: "65x64" })),
  model: await refused(client.images.generate({ ...usual, model: "gpt-image-1" })),
  stranger: await refused(stranger.images.generate(usual)),
};
console.log(JSON.stringify(told));
