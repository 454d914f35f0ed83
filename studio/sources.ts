import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";

// Everything that decides what is built. `tests/project/test_studio.py` computes the same digest.
const BESIDE_SOURCES = ["index.html", "package.json", "package-lock.json", "sources.ts", "tsconfig.json", "vite.config.ts"];

export function digestOfSources(): string {
  const digest = createHash("sha256");
  for (const path of [...BESIDE_SOURCES, ...below("public"), ...below("src")].sort()) {
    digest.update(`${path}\n`).update(readFileSync(path));
  }
  return digest.digest("hex");
}

function below(folder: string): string[] {
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((each) => `${folder}/${each}`);
  return paths.filter((each) => statSync(each).isFile());
}
