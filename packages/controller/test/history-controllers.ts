import { keys, type Operation, type TxnRequest, type TxnResult } from "@cocoon-net/core";
import { changesCluster, type InterposedStore } from "./interposed-store.ts";
import type { TestCluster, TestController } from "./test-cluster.ts";

/** What happens at a controller's write. */
export interface Interruption {
  /** At a write that puts such a key, after so many others. */
  readonly prefix: string;
  skip: number;
  /** Takes the place of the write; `forward` sends it. */
  readonly act: (id: string, puts: readonly Put[], forward: () => Promise<TxnResult>) => Promise<TxnResult>;
}

type Put = Extract<Operation, { readonly put: string }>;

export const tickMs = 5_000;

/** The controllers of a history; at least two live at any time. */
export class HistoryControllers {
  /** What happens next. */
  atWrite: Interruption | undefined;
  readonly #cluster: TestCluster;
  readonly #onTxn: (id: string, request: TxnRequest, isLoading: boolean) => void;
  #started = 0;
  #away: TestController | undefined;
  #reachedAt = 0;

  /** `onTxn`: a controller's transaction, before it is sent, and whether it has not loaded all that it follows. */
  constructor(cluster: TestCluster, onTxn: (id: string, request: TxnRequest, isLoading: boolean) => void) {
    this.#cluster = cluster;
    this.#onTxn = onTxn;
  }

  /** For so long the store has been within every controller's reach, milliseconds. */
  get reachedMs(): number {
    return this.#away ? 0 : this.#cluster.clock.now() - this.#reachedAt;
  }

  get live(): readonly TestController[] {
    return this.#cluster.controllers.filter(({ cloud }) => !cloud.dead);
  }

  /** The controller that leads, or the newest. */
  get leader(): TestController {
    const proof = this.#cluster.database.get(keys.controller);
    const id = proof && (JSON.parse(proof.value) as { id: string }).id;
    const leader = this.live.find((known) => known.id === id) ?? this.live.at(-1);
    if (!leader) throw new Error("there is no controller");
    return leader;
  }

  start(): void {
    this.#started += 1;
    const id = `c${this.#started}`;
    // Some see part of the cluster later than the rest.
    const lateMs = this.#started % 2 === 0 ? 2_000 : 0;
    this.#cluster.start(id, {
      tickMs,
      proveEveryMs: 15_000,
      resignAfterMs: 45_000,
      policy: "instance-gone",
      prepareMoveMs: 20_000,
      keepWarm: 1,
      prepare: ({ store }) => this.#watchController(id, store, lateMs),
    });
  }

  #watchController(id: string, store: InterposedStore, lateMs: number): void {
    const { clock } = this.#cluster;
    let loading = 0;
    store.interceptWatch = async function* (prefix, forward) {
      if (prefix === keys.leader) return yield* forward();
      let isLoading = true;
      loading += 1;
      try {
        if (prefix === "alive/" && lateMs > 0)
          await new Promise<void>((resolve) => clock.after(lateMs, resolve));
        for await (const batch of forward()) {
          if (isLoading) loading -= 1;
          isLoading = false;
          yield batch;
        }
      } finally {
        if (isLoading) loading -= 1;
      }
    };
    store.intercept = async (request, forward) => {
      this.#onTxn(id, request, loading > 0);
      const at = this.atWrite;
      const puts = (request.then ?? []).filter((operation) => "put" in operation);
      const isIt = at && changesCluster(request) && puts.some(({ put }) => put.startsWith(at.prefix));
      if (!isIt || at.skip-- > 0) return forward();
      this.atWrite = undefined;
      return at.act(id, puts, forward);
    };
  }

  kill(controller: TestController): void {
    controller.kill();
    this.start();
  }

  /** The store is within reach of every controller again. */
  reach(): void {
    if (!this.#away?.cloud.dead) this.#away?.link.pass();
    this.#away = undefined;
    this.#reachedAt = this.#cluster.clock.now();
  }

  /** The store is out of the leader's reach. */
  cutOff(): void {
    this.#away = this.leader;
    this.#away.link.blackhole();
  }
}
