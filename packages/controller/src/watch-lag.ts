import type { Revision } from "@cocoon-net/core";
import type { Clock } from "./clock.ts";

/** Measures how long the leader's own writes take to come back to it by its watch. */
export class WatchLag {
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #onLag: (ms: number) => void;
  /** A write whose sighting is awaited, or a sighting whose answer is: they come in either order. */
  #written: { readonly revision: Revision; readonly at: number } | undefined;
  #seen: { readonly revision: Revision; readonly at: number } | undefined;

  constructor(clock: Pick<Clock, "monotonic">, onLag: (ms: number) => void) {
    this.#clock = clock;
    this.#onLag = onLag;
  }

  written(revision: Revision): void {
    this.#written = { revision, at: this.#clock.monotonic() };
    this.#compare();
  }

  seen(revision: Revision): void {
    this.#seen = { revision, at: this.#clock.monotonic() };
    this.#compare();
  }

  #compare(): void {
    const [written, seen] = [this.#written, this.#seen];
    if (!written || !seen || seen.revision < written.revision) return;
    this.#onLag(Math.max(0, seen.at - written.at));
    this.#written = undefined;
  }
}
