// The official client for Node: a video with an image from its prompt to its bytes, and what goes wrong. Prints what it saw.
import OpenAI, { toFile } from "openai";
import { readFile } from "node:fs/promises";

const [image] = process.argv.slice(2);
const { GATEWAY, KEY, MODEL } = process.env;
const client = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, maxRetries: 0 });
const reference = () => readFile(image).then((data) => toFile(data, "image.png", { type: "image/png" }));
const bytes = async (id, delivery) => {
  const answer = await client.videos.downloadContent(id, {}, { query: { delivery } });
  return Buffer.from(await answer.arrayBuffer());
};
const refused = (asked) => asked.then(() => "accepted", (error) => [error.constructor.name, error.status, error.code]);

const shape = { model: MODEL, seconds: "4", size: "720x1280" };
let video = await client.videos.create({ prompt: "A cat", input_reference: await reference(), ...shape });
const created = video.status;
while (video.status === "queued" || video.status === "in_progress") {
  await new Promise((resolve) => setTimeout(resolve, 50));
  video = await client.videos.retrieve(video.id);
}
const [through, around] = [await bytes(video.id, "proxy"), await bytes(video.id, "redirect")];
const remix = await client.videos.remix(video.id, { prompt: "A dog" });
const listed = [];
for await (const each of client.videos.list({ limit: 1 })) listed.push(each.id);
const unready = await refused(client.videos.downloadContent(remix.id));
await client.videos.delete(remix.id);
const gone = await refused(client.videos.retrieve(remix.id));
const wrong = await refused(client.videos.create({ prompt: "A cat", ...shape, size: "1x1" }));
const same = through.length > 1000 && through.equals(around) && through.subarray(4, 8).toString() === "ftyp";
const order = JSON.stringify(listed.slice(0, 2)) === JSON.stringify([remix.id, video.id]);
console.log(JSON.stringify({ created, ended: video.status, same, order, unready, gone, wrong }));
