import { it } from "vitest";
import type { CloudWorld } from "./world.ts";

/** Registers a test that has an account of its own. */
export type Check<W extends CloudWorld = CloudWorld> = (
  name: string,
  run: (world: W) => Promise<void>,
  timeoutMs?: number,
) => void;

/** For tests that do the same work many times. */
export const longMs = 240_000;

export function checkWith<W extends CloudWorld>(open: () => Promise<W>): Check<W> {
  return (name, run, timeoutMs = 60_000) =>
    it(
      name,
      async () => {
        await using world = await open();
        await run(world);
      },
      timeoutMs,
    );
}
