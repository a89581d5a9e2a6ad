import type { Store } from "@cocoon-net/core";
import { MemoryDatabase, openMemoryStore } from "@cocoon-net/store-memory";

type Committed = NonNullable<ReturnType<MemoryDatabase["transactionsAfter"]>>[number];

/**
 * A primary that acknowledges, and a replica that follows until it is cut off. A failover puts the replica in the
 * primary's place: the same history up to the cut, at the same revisions, and another incarnation.
 */
export class LossyDatabase {
  readonly #log: Committed[] = [];
  #replicated: number | undefined;
  #primary = this.#replay();
  #inner = openMemoryStore({ database: this.#primary });

  get isCut(): boolean {
    return this.#replicated !== undefined;
  }

  /** From here on nothing reaches the replica. */
  cut(): void {
    this.#replicated ??= this.#log.length;
  }

  failOver(): void {
    this.#log.splice(this.#replicated ?? this.#log.length);
    this.#replicated = undefined;
    this.#primary = this.#replay();
    this.#inner = openMemoryStore({ database: this.#primary });
  }

  /** A handle on whatever is the primary. */
  open(): Store {
    const inner = (): Store => this.#inner;
    return {
      label: "memory:",
      capabilities: this.#inner.capabilities,
      get: (key, options) => inner().get(key, options),
      list: (prefix, options) => inner().list(prefix, options),
      txn: (request, options) => inner().txn(request, options),
      watch: (prefix, options) => inner().watch(prefix, options),
      session: (ttlMs, options) => inner().session(ttlMs, options),
      incarnation: (options) => inner().incarnation(options),
      [Symbol.asyncDispose]: async () => {},
    };
  }

  #replay(): MemoryDatabase {
    const database = new MemoryDatabase();
    for (const { changes } of this.#log) {
      const operations = changes.map(({ key, after }) =>
        after ? { put: key, value: after.value, sessionId: undefined } : { delete: key },
      );
      database.txn([{ if: [], then: operations }]);
    }
    database.onCommit(() => {
      if (database !== this.#primary) return;
      const newest = database.transactionsAfter(database.revision - 1) ?? [];
      this.#log.push(...newest);
    });
    return database;
  }
}
