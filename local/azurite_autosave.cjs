// Preloaded into Azurite (`node -r`): saves its metadata soon after a change instead of every 5 s.
//
// Azurite keeps blobs' properties, queue messages and table rows in memory (LokiJS) and writes the whole of it to a file
// when its autosave timer finds it changed. What was acknowledged since the last save is lost if node is killed. Here
// the next save comes 100 ms after the last one ended, or nine times as long as the last one took if that is more, so that
// saving never takes more than a tenth of the time however much data there is. It is no write-ahead log: kill -9 of
// node under steady writes still lost the last 0.02 to 0.33 s of them (ten kills, 2 cores), and a power cut can lose more, as
// LokiJS does not fsync. No table transaction was ever saved in part. SIGTERM saves everything.
"use strict";

const { realpathSync } = require("node:fs");
const { createRequire } = require("node:module");

const SHORTEST_PAUSE_MS = 100;
const PAUSES_PER_SAVE = 9;

// Azurite's own copy of lokijs, found from the script that node was asked to run.
const Loki = createRequire(realpathSync(process.argv[1]))("lokijs");

Loki.prototype.autosaveEnable = function () {
  this.autosave = true;
  const again = (pause) => {
    this.autosaveHandle = setTimeout(saveIfChanged, pause);
  };
  const saveIfChanged = () => {
    if (!this.autosaveDirty()) return again(SHORTEST_PAUSE_MS);
    const started = performance.now();
    return this.saveDatabase((error) => {
      if (error) console.error(`Azurite could not save ${this.filename}: ${error.message}`);
      if (this.autosaveHandle === null) return; // closed meanwhile
      again(Math.max(SHORTEST_PAUSE_MS, PAUSES_PER_SAVE * (performance.now() - started)));
    });
  };
  again(SHORTEST_PAUSE_MS);
};

Loki.prototype.autosaveDisable = function () {
  clearTimeout(this.autosaveHandle);
  this.autosaveHandle = null;
};

// Closing saves what has changed since the last save began; it must also wait for that one to end, or node exits first.
const close = Loki.prototype.close;
Loki.prototype.close = function (callback) {
  this.autosaveDisable();
  this.throttledSaveDrain(() => close.call(this, callback));
};

// Azurite listens for one SIGTERM only, and a second one would end node in the middle of its last save. Two do come where the
// parent had threads when it was killed: the kernel signals its child for each thread that had become its parent in turn.
process.on("SIGTERM", () => {});
