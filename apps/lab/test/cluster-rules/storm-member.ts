import { parseConnectionUrl, Registry, type Store } from "@cocoon-net/core";
import { etcdDriver } from "@cocoon-net/store-etcd";
import { redisDriver } from "@cocoon-net/store-redis";
import { requestOf } from "./cluster-fixture.ts";
import { countTxns } from "./intercepted-store.ts";

// A process of its own that registers nodes: it opens the store, says so, and starts when it is told.

export interface MemberOrder {
  readonly first: number;
  readonly count: number;
}

export interface MemberResult {
  readonly subnets: readonly string[];
  readonly transactions: number;
  readonly ms: number;
}

const store = await open(process.argv[2] ?? "");
process.once("message", (order: MemberOrder) => {
  void register(order).then((result) => process.send?.(result));
});
process.send?.("ready");

async function register({ first, count }: MemberOrder): Promise<MemberResult> {
  const counter = { transactions: 0 };
  const registry = new Registry(countTxns(store, counter));
  const started = performance.now();
  const registrations = await Promise.all(
    Array.from({ length: count }, (_, i) => registry.register(requestOf(`node-${first + i}`))),
  );
  return {
    subnets: registrations.map(({ subnet }) => subnet),
    transactions: counter.transactions,
    ms: performance.now() - started,
  };
}

async function open(text: string): Promise<Store> {
  const url = parseConnectionUrl(text);
  const driver = [etcdDriver, redisDriver].find(({ schemes }) => schemes.includes(url.scheme));
  if (!driver) throw new Error(`nothing opens ${url.label}`);
  return driver.open(url);
}
