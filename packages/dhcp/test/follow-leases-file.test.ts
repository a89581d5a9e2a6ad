import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type FileLease, type FollowedLeases, followLeasesFile } from "@cocoon-net/dhcp";
import { describe, expect, it, onTestFinished } from "vitest";
import { macOf } from "./client-messages.ts";
import { scratchDirectory, until } from "./scratch-directory.ts";

const T = Date.UTC(2026, 3, 5, 6);
const text = (...indices: number[]): string =>
  JSON.stringify(
    indices.map((index) => ({ mac: macOf(index), ip: `10.0.0.${index}`, expiry: new Date(T).toISOString() })),
  );

class Follower {
  readonly seen: FollowedLeases[] = [];
  readonly problems: string[] = [];
  readonly #end = new AbortController();
  readonly #done: Promise<void>;

  constructor(path: string, pollMs: number) {
    this.#done = this.#follow(path, pollMs);
    onTestFinished(() => this.stop());
  }

  async #follow(path: string, pollMs: number): Promise<void> {
    const onProblem = (problem: string): void => {
      this.problems.push(problem);
    };
    for await (const snapshot of followLeasesFile(path, { signal: this.#end.signal, pollMs, onProblem })) {
      this.seen.push(snapshot);
    }
  }

  stop(): Promise<void> {
    this.#end.abort();
    return this.#done;
  }

  async sees(...indices: number[]): Promise<void> {
    const wanted = indices.map((index) => `10.0.0.${index}`).join();
    const last = (): readonly FileLease[] => this.seen.at(-1)?.leases ?? [];
    await until(
      () =>
        this.seen.length > 0 &&
        last()
          .map(({ ip }) => ip)
          .join() === wanted,
      `leases ${wanted}`,
    );
  }

  async says(problem: string): Promise<void> {
    await until(() => this.problems.at(-1)?.includes(problem) ?? false, `the problem "${problem}"`);
  }
}

describe("following leases.json", () => {
  it.each([
    ["by watching", 600_000],
    ["by polling, where the directory comes later", 5],
  ])("yields the file at start and on every change, %s", async (_how, pollMs) => {
    const directory = join(await scratchDirectory(), "net");
    const path = join(directory, "leases.json");
    const make = async (): Promise<void> => {
      await mkdir(directory);
      await writeFile(path, text(1));
    };
    if (pollMs > 1000) await make();
    const follower = new Follower(path, pollMs);
    if (pollMs < 1000) {
      await follower.says("does not exist");
      await make();
    }
    await follower.sees(1);
    expect(follower.seen.at(-1)).toEqual({
      leases: [{ mac: macOf(1), ip: "10.0.0.1", expiry: T }],
      complete: true,
    });
    await writeFile(`${path}.tmp`, text(1, 2));
    await rename(`${path}.tmp`, path);
    await follower.sees(1, 2);
    await writeFile(path, text(2));
    await follower.sees(2);
    await follower.stop();
  });

  it("a missing or half-written file is no news, never an end of leases (G8)", async () => {
    const path = join(await scratchDirectory(), "leases.json");
    await writeFile(path, text(1, 2));
    const follower = new Follower(path, 5);
    await follower.sees(1, 2);
    await rm(path);
    await follower.says("does not exist");
    await writeFile(path, text(1, 2, 3).slice(0, 60));
    await follower.says("is not JSON");
    await writeFile(path, "");
    await writeFile(path, '{"leases": []}');
    await follower.says("is not a JSON array");
    expect(follower.seen).toHaveLength(1);
    await writeFile(path, text(3));
    await follower.sees(3);
    expect(follower.seen.map(({ leases }) => leases.length)).toEqual([2, 1]);
  });

  it("marks a file with an unreadable entry as incomplete", async () => {
    const path = join(await scratchDirectory(), "leases.json");
    await writeFile(path, text(1).replace("]", ',{"mac": 3}]'));
    const follower = new Follower(path, 5);
    await follower.sees(1);
    expect(follower.seen[0]?.complete).toBe(false);
  });

  it("says nothing when the file does not change, and ends at once with its signal", async () => {
    const path = join(await scratchDirectory(), "leases.json");
    await writeFile(path, text(1));
    const follower = new Follower(path, 600_000);
    await follower.sees(1);
    const start = performance.now();
    await follower.stop();
    // Not at its next look, in ten minutes.
    expect(performance.now() - start).toBeLessThan(20_000);
    expect(follower.seen).toHaveLength(1);
    expect(follower.problems).toEqual([]);
  });
});
