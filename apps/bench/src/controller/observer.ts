import { decode, eventSchema, keys, pause, prefixes, type Store, type WatchBatch } from "@cocoon-net/core";

/** When what became durable was seen here, by the wall clock: the controllers' own word is not asked for it. */
export class Observer implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #watches: Promise<void>;
  /** By type and node, the first time. */
  readonly #events = new Map<string, number>();
  #leaders: number[] = [];

  constructor(store: Store) {
    const follow = async (prefix: string, take: (batch: WatchBatch) => void): Promise<void> => {
      for await (const batch of store.watch(prefix, { signal: this.#stop.signal })) take(batch);
    };
    this.#watches = Promise.all([
      follow(prefixes.events, (batch) => this.#takeEvents(batch)),
      follow(keys.leader, (batch) => this.#takeLeader(batch)),
    ]).then(
      () => undefined,
      () => undefined,
    );
  }

  /** When the event of each of these nodes was seen. @throws {Error} when one is missing at the end of the time. */
  async seen(type: string, nodes: readonly string[], withinMs: number): Promise<number[]> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const times = nodes.map((node) => this.#events.get(`${type} ${node}`));
      const there = times.filter((time) => time !== undefined);
      if (there.length === nodes.length) return there;
      if (performance.now() > deadline) {
        throw new Error(
          `${type}: ${there.length} of ${nodes.length} nodes within ${Math.round(withinMs / 1_000)} s`,
        );
      }
      await pause(20);
    }
  }

  /** How many nodes an event of that type was seen of. */
  count(type: string): number {
    return [...this.#events.keys()].filter((key) => key.startsWith(`${type} `)).length;
  }

  /** When somebody was elected after `at`. */
  async elected(at: number, withinMs: number): Promise<number> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const found = this.#leaders.find((time) => time > at);
      if (found !== undefined) return found;
      if (performance.now() > deadline) throw new Error("nobody was elected");
      await pause(10);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#watches;
  }

  #takeEvents(batch: WatchBatch): void {
    const now = Date.now();
    const entries =
      batch.type === "snapshot"
        ? batch.entries
        : batch.changes.flatMap((change) => (change.type === "put" ? [change.entry] : []));
    for (const entry of entries) {
      const { type, node = "" } = decode(eventSchema, entry);
      const key = `${type} ${node}`;
      if (!this.#events.has(key)) this.#events.set(key, now);
    }
  }

  #takeLeader(batch: WatchBatch): void {
    const there =
      batch.type === "snapshot" ? batch.entries.length > 0 : batch.changes.some(({ type }) => type === "put");
    if (there) this.#leaders = [...this.#leaders, Date.now()];
  }
}
