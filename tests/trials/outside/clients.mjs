// Every method of `client.videos` of the official client for Node: prints, as JSON, how each ended.
// Arguments: "openai" or "azure", the gateway's address, a key, a model, and a file with a PNG.
import { readFileSync } from "node:fs";
import OpenAI, { AzureOpenAI, toFile } from "openai";

const [kind, url, apiKey, model, png] = process.argv.slice(2);
const client =
  kind === "azure"
    ? new AzureOpenAI({ endpoint: url, apiKey, apiVersion: "preview" })
    : new OpenAI({ baseURL: `${url}/v1`, apiKey });
const asked = { prompt: `A cat, for ${kind} and Node`, model, seconds: "4", size: "720x1280" };
const found = {};

async function step(name, run) {
  try {
    const result = await run();
    found[name] = "works";
    return result;
  } catch (error) {
    found[name] = error.status ? `${error.status} \`${error.code}\`` : String(error);
  }
}

async function ended(id) {
  for (;;) {
    const video = await client.videos.retrieve(id);
    if (video.status === "completed" || video.status === "failed") return video;
    await new Promise((done) => setTimeout(done, 100));
  }
}

const { id } = await step("create", () => client.videos.create(asked));
await step("create with an image", async () => {
  const image = await toFile(readFileSync(png), "cat.png", { type: "image/png" });
  return client.videos.create({ ...asked, input_reference: image });
});
await step("retrieve", () => ended(id));
await step("list", () => client.videos.list({ limit: 1 }));
await step("download_content", async () => {
  const data = Buffer.from(await (await client.videos.downloadContent(id)).arrayBuffer());
  if (data.subarray(4, 8).toString() !== "ftyp") throw new Error("these are not the video's bytes");
});
await step("remix", () => client.videos.remix(id, { prompt: "A dog" }));
await step("edit", () => client.videos.edit({ prompt: "A dog", video: { id } }));
await step("extend", () => client.videos.extend({ prompt: "A dog", seconds: "8", video: { id } }));
await step("create_character", async () =>
  client.videos.createCharacter({ name: "Mia", video: await toFile(Buffer.from("x"), "mia.mp4", { type: "video/mp4" }) }),
);
await step("get_character", () => client.videos.getCharacter("char_1"));
await step("delete", () => client.videos.delete(id));
console.log(JSON.stringify(found));
