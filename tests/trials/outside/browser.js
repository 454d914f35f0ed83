// Every operation by `fetch`, as a page does it: gives how each ended. Arguments: a key, a model, a PNG
// in Base64, and the gateway's origin; "" for that of the page.
async (key, model, png, gateway) => {
  const asked = { prompt: "A cat, for a browser", model, seconds: "4", size: "720x1280" };
  const found = {};

  function ask(path, method = "GET", body = undefined) {
    const headers = { authorization: `Bearer ${key}` };
    if (typeof body === "string") headers["content-type"] = "application/json";
    return fetch(`${gateway}/v1/videos${path}`, { method, headers, body });
  }

  const post = (path, body) => ask(path, "POST", JSON.stringify(body));

  function form(fields) {
    const data = new FormData();
    for (const [name, value] of Object.entries(fields)) data.append(name, value);
    return data;
  }

  async function step(name, run) {
    try {
      const answer = await run();
      found[name] = answer.ok ? "works" : `${answer.status} \`${(await answer.json()).error.code}\``;
      return answer;
    } catch (error) {
      found[name] = String(error);
    }
  }

  async function ended(id) {
    for (;;) {
      const answer = await ask(`/${id}?wait=30`);
      const { status } = await answer.clone().json();
      if (status === "completed" || status === "failed") return answer;
      await new Promise((resolve) => setTimeout(resolve, 1000)); // where no call may wait, it is answered at once
    }
  }

  function played(film) {
    const player = document.createElement("video");
    player.muted = true;
    player.src = URL.createObjectURL(film);
    player.playbackRate = 16;
    return new Promise((done, fail) => {
      player.onended = () => done({ ok: player.videoWidth === 720 && player.videoHeight === 1280 });
      player.play().catch(fail);
    });
  }

  const { id } = await (await step("create", () => post("", asked))).json();
  const image = await (await fetch(`data:image/png;base64,${png}`)).blob();
  await step("create with an image", () => ask("", "POST", form({ ...asked, input_reference: image })));
  const events = ask(`/${id}/events`);
  await step("retrieve", () => ended(id));
  await step("events", async () => ({ ok: (await (await events).text()).includes("event: video.completed") }));
  await step("list", () => ask("?limit=1"));
  await step("read headers", async () => ({ ok: (await ask("?limit=1")).headers.has("x-request-id") }));
  const content = await step("download_content", () => ask(`/${id}/content`));
  await step("play", async () => played(await content.blob()));
  await step("download_content by redirect", () => ask(`/${id}/content?delivery=redirect`));
  await step("remix", () => post(`/${id}/remix`, { prompt: "A dog" }));
  await step("edit", () => post("/edits", { prompt: "A dog", video: { id } }));
  await step("extend", () => post("/extensions", { prompt: "A dog", seconds: "8", video: { id } }));
  await step("create_character", () => ask("/characters", "POST", form({ name: "Mia", video: image })));
  await step("get_character", () => ask("/characters/char_1"));
  await step("delete", () => ask(`/${id}`, "DELETE"));
  return found;
}
