// Loaded into agents and controllers of a chaos run: their wall clock can be stepped, the monotonic one goes on.
import { readFileSync } from "node:fs";

const path = process.env.CHAOS_CLOCK;
const RealDate = globalThis.Date;
let offsetMs = 0;

function read() {
  try {
    offsetMs = Number(readFileSync(path, "utf8")) || 0;
  } catch {
    offsetMs = 0;
  }
}

class SteppedDate extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + offsetMs);
    else super(...args);
  }
  static now() {
    return RealDate.now() + offsetMs;
  }
  static [Symbol.hasInstance](value) {
    return RealDate[Symbol.hasInstance].call(RealDate, value);
  }
}

if (path) {
  read();
  setInterval(read, 250).unref();
  globalThis.Date = SteppedDate;
}
