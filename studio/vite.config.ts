import { defineConfig } from "vite";

import { digestOfSources } from "./sources";

// No inline code and no polyfills: the page's policy lets neither run.
export default defineConfig({
  base: "/studio/",
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    outDir: "../shared/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  // `npm run dev` shows changes at once, beside a gateway that `make run` serves.
  server: { proxy: Object.fromEntries(["/v1", "/key", "/spend", "/health", "/events", "/model"].map((path) => [path, "http://localhost:4000"])) },
  plugins: [
    {
      name: "say-what-it-was-built-from",
      transformIndexHtml: (html) => html.replace("{{sources}}", digestOfSources()),
    },
  ],
});
