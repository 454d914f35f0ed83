// `node stories.mjs NAME` plays a story against the gateway at ADDRESS; `tests/trials/outside/test_studio.py` plays all.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

import { browsing, check, DESKTOP, PHONE, signIn } from "./browser.mjs";

const { ADDRESS, KEY, OPERATOR, FOLDER } = process.env;
const PROMPT = "A cat playing with a ball of yarn in a sunny garden";

const make = (page) => page.getByRole("button", { name: /^Make it/ });
const done = (page, prompt) => page.getByRole("button", { name: `Done: ${prompt}` });
const player = (page) => page.locator("dialog video");

async function order(page, prompt) {
  await page.getByLabel("Prompt", { exact: true }).fill(prompt);
  await make(page).click();
}

const asked = (path, key, given = {}) =>
  fetch(ADDRESS + path, { ...given, headers: { authorization: `Bearer ${key}`, "content-type": "application/json" } }).then((told) => told.json());

const plays = (page) => page.waitForFunction(() => document.querySelector("dialog video")?.currentTime > 0);

async function seriousOf(page) {
  // As the browser's own tools run code: the page's policy would let no script of ours in.
  await page.evaluate(readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}

const stories = {
  async from_prompt_to_played_video() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      await page.getByText("Nothing here yet").waitFor();
      await page.getByRole("button", { name: "Make it for $0.40" }).waitFor();
      await page.getByLabel("8 s", { exact: true }).check();
      await page.getByRole("button", { name: "Make it for $0.80" }).waitFor();
      await order(page, PROMPT);
      await page.getByRole("button", { name: /^All 1/ }).waitFor();
      await done(page, PROMPT).click();
      await plays(page);
      check((await player(page).evaluate((film) => film.videoWidth)) === 720, "the film has its size");
      await page.getByRole("button", { name: "Go to 4.0 s" }).click();
      await page.waitForFunction(() => document.querySelector("dialog video").currentTime === 4);
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download" }).click()]);
      const bytes = readFileSync(await download.path());
      check(bytes.subarray(4, 8).toString() === "ftyp", "the file is an MP4");
      await page.getByRole("button", { name: "Delete" }).click();
      await page.getByRole("button", { name: "Delete for good?" }).click();
      await page.getByText("Nothing here yet").waitFor();
    });
  },

  async signing_in_with_entra() {
    await browsing(ADDRESS, async (page) => {
      await page.goto("/studio");
      await page.getByRole("button", { name: "Sign in with Microsoft" }).click();
      await page.getByText("entra:bbbbbbbb-0000-0000-0000-000000000001").waitFor();
      await page.getByText("$1.00 left of $1.00").waitFor();
      check(page.url() === `${ADDRESS}/studio`, "no code is in the address");
      await page.reload();
      await page.getByText("entra:bbbbbbbb-0000-0000-0000-000000000001").waitFor();
      await page.getByRole("button", { name: "Sign out" }).click();
      check(await page.evaluate(() => sessionStorage.length === 0), "nothing is kept");
      await page.goto("/studio#code=another&state=another"); // which this tab has not asked for
      await page.getByRole("button", { name: "Sign in with Microsoft" }).waitFor();
    });
  },

  async a_token_is_renewed() {
    await browsing(ADDRESS, async (page) => {
      await page.goto("/studio");
      await page.getByRole("button", { name: "Sign in with Microsoft" }).click();
      await order(page, PROMPT);
      await done(page, PROMPT).waitFor();
    });
  },

  async signing_out_ends_a_renewal() {
    await browsing(ADDRESS, async (page) => {
      let answer;
      const asked = new Promise((resolve) => {
        page.route("**/oauth2/v2.0/token", async (route) => {
          if (!route.request().postData().includes("refresh_token")) return route.continue();
          resolve();
          await new Promise((release) => (answer = release));
          await route.continue();
        });
      });
      await page.goto("/studio");
      await page.getByRole("button", { name: "Sign in with Microsoft" }).click();
      await asked;
      await page.getByRole("button", { name: "Sign out" }).click();
      const answered = page.waitForResponse("**/oauth2/v2.0/token");
      answer();
      await (await answered).finished();
      await page.evaluate(() => fetch("/studio/sign_in.json").then((told) => told.json())); // the page has seen it by then
      check(await page.evaluate(() => sessionStorage.length === 0), "nothing is kept");
    });
  },

  async remix_and_go_on_from_the_last_frame() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      await order(page, PROMPT);
      await done(page, PROMPT).click();
      await plays(page);
      await page.getByLabel("Change it").fill("Make the cat jump higher");
      await page.getByRole("button", { name: "Remix for $0.40" }).click();
      await page.getByRole("heading", { name: "Make the cat jump higher" }).waitFor();
      await page.getByRole("button", { name: PROMPT, exact: true }).waitFor();
      await plays(page);
      await page.getByRole("button", { name: "Go on from the last frame" }).click();
      await page.getByLabel(/^Reference image, cut to 720 × 1280/).waitFor();
      await order(page, "The cat falls asleep");
      await done(page, "The cat falls asleep").waitFor();
    });
  },

  async a_reference_image_is_cut_to_size() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      const kinds = [];
      page.on("request", (each) => each.method() === "POST" && each.url().endsWith("/v1/videos") && kinds.push(each.headers()["content-type"]));
      await page.getByLabel("Prompt", { exact: true }).fill("Sent while the image is being cut");
      await page.getByLabel("Reference image").setInputFiles(`${FOLDER}/cat.png`);
      await page.getByLabel("Prompt", { exact: true }).press("Control+Enter");
      await page.getByLabel("1280 × 720").check();
      await page.getByLabel("Zoom").fill("2");
      await page.getByLabel(/^Reference image, cut to 1280 × 720/).press("ArrowRight");
      await page.getByText("The same request").click();
      await page.getByLabel("curl", { exact: true }).getByText("input_reference=@reference.jpg").waitFor();
      const [request] = await Promise.all([page.waitForRequest((each) => each.method() === "POST" && each.url().endsWith("/v1/videos")), order(page, PROMPT)]);
      check(request.headers()["idempotency-key"].length === 32, "a request has a name of its own");
      check(kinds.every((each) => each.startsWith("multipart/form-data")), "no video is made without its image");
      await done(page, PROMPT).waitFor();
    });
  },

  async a_reload_in_the_middle_loses_nothing() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      for (const prompt of ["One", "Two", "Three"]) {
        await order(page, prompt);
        await page.getByRole("button", { name: new RegExp(`: ${prompt}`) }).waitFor();
      }
      await page.getByLabel("Prompt", { exact: true }).fill("A thought that is not sent yet");
      await page.getByRole("button", { name: /^Running/ }).click();
      await page.reload();
      check((await page.getByLabel("Prompt", { exact: true }).inputValue()) === "A thought that is not sent yet", "the draft is there");
      check((await page.getByRole("button", { name: /^Running/ }).getAttribute("aria-pressed")) === "true", "the tab is the same");
      await page.getByRole("button", { name: "Done 3" }).click();
      for (const prompt of ["One", "Two", "Three"]) await done(page, prompt).waitFor();
      check(!page.url().includes("sk-"), "no key is in the address");
    });
  },

  async a_budget_is_refused_and_costs_nothing() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      await page.getByText("$0.10 left of $0.10").waitFor();
      await page.getByText("That is less than this video costs.").waitFor();
      await order(page, PROMPT);
      const refusal = page.getByRole("alert");
      await refusal.getByText("budget_exceeded").waitFor();
      await refusal.getByText("ask your operator for more budget").waitFor();
      await refusal.getByText(/^req_/).waitFor();
    });
    const { info } = await asked("/key/info", KEY);
    check(info.spend === 0 && info.reserved === 0, "nothing was spent");
  },

  async a_failure_says_what_to_do() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      await order(page, PROMPT);
      await page.getByRole("button", { name: `Failed: ${PROMPT}` }).click();
      const dialog = page.getByRole("dialog");
      await dialog.getByText("moderation_blocked").waitFor();
      await dialog.getByText("Refused: <img src=x onerror=alert(1)>").waitFor(); // and not an image
      await dialog.getByText("Change the prompt or the image").waitFor();
      await dialog.getByText("It cost nothing.").waitFor();
      await dialog.getByText(/^video_[0-9a-f]{32}$/).waitFor();
    });
  },

  async a_wrong_key_is_told_and_forgotten() {
    await browsing(ADDRESS, async (page) => {
      await page.goto("/studio");
      await page.getByLabel("Your key").fill("sk-of-nobody-at-all");
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("alert").getByText("Sign in again, or with another key").waitFor();
      check((await page.evaluate(() => sessionStorage.length)) === 0, "nothing is kept");
      await page.getByLabel("Your key").fill(` ${KEY}\n`);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.getByRole("button", { name: "Sign out" }).click();
      check((await page.evaluate(() => sessionStorage.length + localStorage.length)) === 0, "nothing is kept");
      check((await page.context().cookies()).length === 0, "there is no cookie");
    });
  },

  async texts_of_others_are_only_text() {
    const evil = `<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>{{7*7}}`;
    const { id } = await asked("/v1/videos", OPERATOR, { method: "POST", body: JSON.stringify({ prompt: evil }) });
    await asked("/key/generate", OPERATOR, { method: "POST", body: JSON.stringify({ key_alias: evil.slice(0, 120) + id.slice(-6) }) });
    await browsing(ADDRESS, async (page) => {
      await signIn(page, OPERATOR);
      await page.getByLabel("Videos", { exact: true }).getByText(evil).first().waitFor();
      await page.getByRole("button", { name: new RegExp(`<img`) }).first().click();
      await page.getByRole("dialog").getByRole("heading").waitFor();
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Operate" }).click();
      await page.getByRole("rowheader").filter({ hasText: "<img" }).first().waitFor();
      check((await page.title()) === "Studio", "no text has run");
      check((await page.locator("img[src='x'], script:not([src])").count()) === 0, "no text has become an element");
      const inline = page.evaluate(() => document.body.append(Object.assign(document.createElement("script"), { textContent: "document.title = 'broken'" })));
      check(await inline.then(() => false, () => true), "the policy lets no other code in");
    }, { expects: /Trusted|Content Security Policy/ });
  },

  async the_operators_side() {
    await asked("/v1/videos", KEY, { method: "POST", body: JSON.stringify({ prompt: PROMPT }) });
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      await done(page, PROMPT).waitFor();
      check((await page.getByRole("button", { name: "Operate" }).count()) === 0, "a key has no second side");
      await page.getByRole("button", { name: "Sign out" }).click();
      await signIn(page, OPERATOR);
      await page.getByRole("button", { name: "Operate" }).click();
      await page.getByRole("heading", { name: "By key" }).waitFor();
      const row = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: /^Nora/ }) }).first();
      await row.getByText("$0.40").waitFor();
      await page.getByLabel("Name", { exact: true }).fill("Ivo");
      await page.getByLabel("Budget in dollars").fill("3");
      const keys = () => asked("/key/list", OPERATOR).then((told) => told.total_count);
      const before = await keys();
      await page.getByRole("button", { name: "Make a key" }).dblclick();
      const secret = await page.getByRole("status").locator("code").textContent();
      check(secret.startsWith("sk-"), "the secret is shown");
      const { info } = await asked("/key/info", secret);
      check(info.max_budget === 3 && info.key_alias === "Ivo", "the key is as it was made");
      check((await keys()) === before + 1, "a double click makes one key");
      await page.getByRole("button", { name: "I have it" }).click();
      check(!(await page.content()).includes(secret), "the secret is shown once");
      const ivo = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: /^Ivo/ }) }).first();
      let blocks = 0;
      let release;
      const released = new Promise((resolve) => (release = resolve));
      await page.route(/\/key\/(un)?block$/, (route) => {
        blocks += 1;
        return released.then(() => route.continue());
      });
      const block = ivo.getByRole("button", { name: "Block", exact: true });
      await block.dblclick();
      check(await block.isDisabled(), "a button is out of reach while what it does is under way");
      release();
      await ivo.getByText("blocked").waitFor();
      check(blocks === 1, "a double click blocks once");
      await ivo.getByRole("button", { name: "Unblock" }).click();
      await ivo.getByRole("button", { name: "Rotate" }).dblclick();
      check((await page.getByRole("status").count()) === 0, "a double click is no answer to a question");
      await ivo.getByRole("button", { name: /Rotate\?/ }).click();
      const rotated = await page.getByRole("status").locator("code").textContent();
      check(rotated.startsWith("sk-") && rotated !== secret, "the new secret is another");
      await page.getByText("of 2 in use").waitFor();
      await page.getByRole("heading", { name: "Last to webhook endpoints" }).waitFor();
      await page.getByRole("region", { name: "Journal" }).getByText(PROMPT).first().waitFor();
    });
  },

  async a_thousand_videos_come_in_pages() {
    await browsing(ADDRESS, async (page) => {
      await page.clock.install();
      await signIn(page, KEY);
      await page.getByRole("button", { name: "All 1,000" }).waitFor();
      const count = () => page.locator(".card").count();
      await page.locator(".card").first().waitFor();
      await page.clock.runFor(3_000); // in which nothing more comes by itself
      const first = await count();
      check(first < 100, `not all at once (${first})`);
      for (let turn = 0; turn < 3; turn += 1) {
        const before = await count();
        await page.getByRole("button", { name: "Older videos" }).scrollIntoViewIfNeeded();
        await page.waitForFunction((seen) => document.querySelectorAll(".card").length > seen, before);
      }
      check((await count()) < 300, "only what one came near");
      await page.getByRole("button", { name: "Failed 10" }).click();
      await page.waitForFunction(() => document.querySelectorAll(".card.failed").length === 10);
      check((await page.locator(".card:not(.failed)").count()) === 0, "only what failed");
    });
  },

  async a_gateway_that_was_away_is_back() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      await order(page, PROMPT);
      await done(page, PROMPT).waitFor();
      await page.context().setOffline(true);
      await order(page, "Sent into the void");
      await page.locator(".make").getByText("The gateway cannot be reached.").waitFor();
      await page.context().setOffline(false);
      await make(page).click();
      await done(page, "Sent into the void").waitFor();
      await page.getByText("The gateway cannot be reached.").waitFor({ state: "detached" });
      const loses = async (route) => {
        await route.fetch();
        await route.fulfill({ status: 502, body: "The answer was lost." });
      };
      await page.route("**/v1/videos", loses, { times: 1 });
      await order(page, "Made, and the answer was lost");
      await page.locator(".make").getByText("The gateway answered 502.").waitFor();
      await make(page).click();
      await page.locator(".make").getByText("The gateway answered 502.").waitFor({ state: "detached" });
      const { data } = await asked("/v1/videos", KEY);
      check(data.length === 3, "it was made once");
    });
  },

  async changes_are_told_and_else_asked_for() {
    await browsing(ADDRESS, async (page) => {
      let told = 0;
      page.on("response", (response) => (told += response.url().endsWith("/v1/videos/events") && response.ok()));
      await signIn(page, KEY);
      await order(page, "With a stream");
      await done(page, "With a stream").waitFor();
      check(told > 0, "it listened");
      await page.route("**/v1/videos/events", (route) => route.fulfill({ status: 429, json: { error: { code: "too_many_waiting", message: "No." } } }));
      await order(page, "Without a stream");
      await done(page, "Without a stream").waitFor();
    });
  },

  async two_tabs_see_the_same() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      const other = await page.context().newPage();
      await signIn(other, KEY);
      await order(page, PROMPT);
      await done(other, PROMPT).click();
      await other.getByRole("button", { name: "Delete" }).click();
      await other.getByRole("button", { name: "Delete for good?" }).click();
      await other.getByText("Nothing here yet").waitFor();
      await done(page, PROMPT).waitFor({ state: "detached" });
      await page.getByText("Nothing here yet").waitFor();
    });
  },

  async a_late_answer_brings_nothing_back() {
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      await order(page, PROMPT);
      await done(page, PROMPT).waitFor();
      const lists = [];
      let release;
      const released = new Promise((resolve) => (release = resolve));
      await page.route(/\/v1\/videos\?/, async (route) => {
        lists.push(route);
        if (lists.length > 1) return; // the one after it is never answered
        const response = await route.fetch();
        await released;
        await route.fulfill({ response });
      });
      const round = async (number) => {
        while (lists.length < number) await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
      };
      await round(1);
      await done(page, PROMPT).click();
      await page.getByRole("button", { name: "Delete" }).click();
      await page.getByRole("button", { name: "Delete for good?" }).click();
      await done(page, PROMPT).waitFor({ state: "detached" });
      release();
      await round(2); // it begins when the late answer was shown
      check((await done(page, PROMPT).count()) === 0, "what was deleted stays away");
    });
  },

  async a_server_that_is_killed_is_back() {
    const kill = async () => {
      writeFileSync(`${FOLDER}/kill`, "");
      while (!existsSync(`${FOLDER}/back`)) await new Promise((resolve) => setTimeout(resolve, 100));
    };
    await browsing(ADDRESS, async (page) => {
      await signIn(page, OPERATOR);
      await page.evaluate(() => (globalThis.notReloaded = true));
      await order(page, "Made before");
      await done(page, "Made before").waitFor();
      await order(page, "In the making");
      await page.getByRole("button", { name: /: In the making/ }).waitFor();
      await done(page, "Made before").click();
      await plays(page);
      await kill();
      const moment = () => player(page).evaluate((film) => film.currentTime);
      const before = await moment();
      await page.waitForFunction((then) => document.querySelector("dialog video").currentTime !== then, before);
      check(!(await player(page).evaluate((film) => film.paused)), "the film plays on");
      await page.keyboard.press("Escape");
      await done(page, "In the making").waitFor({ timeout: 150_000 });
      await order(page, "Made afterwards");
      await done(page, "Made afterwards").waitFor({ timeout: 150_000 });
      check(await page.evaluate(() => globalThis.notReloaded), "the page was never loaded again");
    });
  },

  async pictures_for_the_page_about_it() {
    const videos = [
      ["A cat playing with a ball of yarn in a sunny garden", "1280x720"],
      ["Rain on the window of a night train", "1280x720"],
      ["A paper boat drifting down a gutter after the storm", "720x1280"],
      ["Two foxes running through fresh snow at dusk", "1280x720"],
      ["Hands folding a crane from yellow paper", "720x1280"],
      ["A lighthouse at dawn, gulls circling", "1280x720"],
    ];
    const post = (path, key, json) => asked(path, key, { method: "POST", body: JSON.stringify(json) });
    for (const [prompt, size] of videos) await post("/v1/videos", KEY, { prompt, size });
    const { key } = await post("/key/generate", OPERATOR, { key_alias: "Ada", max_budget: 10, budget_duration: "30d" });
    for (const seconds of ["4", "8"]) await post("/v1/videos", key, { prompt: "Clouds over a mountain pass", seconds });
    await browsing(ADDRESS, async (page) => {
      const shoot = (name) => page.screenshot({ path: `${FOLDER}/studio-${name}.png` });
      await signIn(page, KEY);
      await page.getByRole("button", { name: `Done ${videos.length}` }).waitFor();
      await page.getByLabel("Prompt", { exact: true }).fill("The cat falls asleep on the warm stones");
      await page.waitForFunction((count) => document.querySelectorAll(".picture img").length === count, videos.length);
      await shoot("videos");
      await done(page, videos[5][0]).click();
      await plays(page);
      await page.locator(".strip").waitFor();
      await shoot("look");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Sign out" }).click();
      await signIn(page, OPERATOR);
      await page.getByRole("button", { name: "Operate" }).click();
      await page.getByText("of 2 in use").waitFor();
      await page.getByRole("rowheader").first().waitFor();
      await page.locator(".ranking li").first().waitFor();
      await page.getByRole("img", { name: /^Spend by day/ }).waitFor();
      await shoot("operate");
    });
    await browsing(ADDRESS, async (page) => {
      await signIn(page, KEY);
      await page.waitForFunction(() => document.querySelectorAll(".picture").length > 3);
      await page.getByRole("group", { name: "Which videos" }).evaluate((tabs) => tabs.scrollIntoView());
      await page.waitForFunction(() => document.querySelectorAll(".picture img").length > 3);
      await page.screenshot({ path: `${FOLDER}/studio-phone.png` });
    }, { viewport: PHONE, colorScheme: "dark" });
  },

  async axe_finds_nothing_serious() {
    for (const colorScheme of ["light", "dark"]) {
      for (const viewport of [DESKTOP, PHONE]) {
        await browsing(ADDRESS, async (page) => {
          const found = [];
          await page.goto("/studio");
          found.push(await seriousOf(page));
          await signIn(page, OPERATOR);
          await order(page, PROMPT);
          await done(page, PROMPT).first().waitFor();
          await page.getByText("The same request").click();
          await page.getByLabel("Reference image").setInputFiles(`${FOLDER}/cat.png`);
          found.push(await seriousOf(page));
          await done(page, PROMPT).first().click();
          await plays(page);
          found.push(await seriousOf(page));
          await page.keyboard.press("Escape");
          await page.getByRole("button", { name: "Operate" }).click();
          await page.getByRole("region", { name: "Journal" }).getByText(PROMPT).first().waitFor();
          found.push(await seriousOf(page));
          const width = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          check(width <= 0, `nothing is wider than the window (${width})`);
          check(!found.flat().length, `nothing serious, ${colorScheme} ${viewport.width}:\n${found.flat().join("\n")}`);
        }, { colorScheme, viewport });
      }
    }
  },

  async hands_need_no_mouse() {
    await browsing(ADDRESS, async (page) => {
      await page.goto("/studio");
      await page.keyboard.press("Tab");
      await page.keyboard.type(KEY);
      await page.keyboard.press("Enter");
      await page.getByLabel("Prompt", { exact: true }).focus();
      await page.keyboard.type(PROMPT);
      await page.keyboard.press("Control+Enter");
      await done(page, PROMPT).focus();
      await page.keyboard.press("Enter");
      await plays(page);
      await page.keyboard.press("Escape");
      await page.getByRole("dialog").waitFor({ state: "detached" });
      check((await page.evaluate(() => document.activeElement.textContent)) === `Done: ${PROMPT}`, "one is back where one was");
    });
  },

  async a_first_load_is_small() {
    await browsing(ADDRESS, async (page) => {
      const sizes = [];
      page.on("requestfinished", (request) => sizes.push(request.sizes()));
      await page.goto("/studio");
      await page.getByLabel("Your key").waitFor();
      const sum = (await Promise.all(sizes)).reduce((total, each) => total + each.responseBodySize, 0);
      check(sum > 10_000 && sum < 150_000, `at most 150 kB (${sum})`);
    });
  },
};

const story = stories[process.argv[2]];
if (!story) throw new Error(`There is no story ${process.argv[2]}: ${Object.keys(stories).join(", ")}`);
await story();
