// A real Chromium on the studio, driven by Playwright. Anything that the page complains of fails a story.
import { chromium } from "playwright-core";

export const DESKTOP = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

/** Calls `story` with a page on which nobody has signed in; `expects` are complaints that it provokes. */
export async function browsing(address, story, { viewport = DESKTOP, colorScheme = "light", expects = null } = {}) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--no-proxy-server"] });
  const complaints = [];
  try {
    const context = await browser.newContext({ baseURL: address, viewport, colorScheme, acceptDownloads: true, locale: "en-GB" });
    context.setDefaultTimeout(60_000);
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: address });
    context.on("weberror", (error) => complaints.push(String(error.error())));
    const page = await context.newPage();
    page.on("console", (message) => {
      // An answer of 4xx is the gateway's to give; a breach of the policy, or an error of ours, is not.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complaints.push(message.text());
    });
    await story(page);
  } catch (failure) {
    const seen = browser.contexts().flatMap((each) => each.pages()).map((each) => each.locator("body").innerText());
    console.error("What the pages showed:", await Promise.allSettled(seen));
    throw failure;
  } finally {
    await browser.close();
  }
  const unexpected = complaints.filter((each) => !expects?.test(each));
  if (unexpected.length) throw new Error(unexpected.join("\n"));
}

export async function signIn(page, key) {
  await page.goto("/studio");
  await page.getByLabel("Your key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

/** Fails unless it is so. */
export function check(so, what) {
  if (!so) throw new Error(`It is not so: ${what}`);
}
