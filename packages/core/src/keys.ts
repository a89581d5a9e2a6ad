/** Prefixes to list or watch. With {@link keys} the one place that knows the layout. */
export const prefixes: {
  readonly subnets: string;
  readonly epochs: string;
  readonly slots: string;
  readonly nodes: string;
  readonly alive: string;
  readonly pool: string;
  readonly moved: string;
  readonly acted: string;
  readonly quarantine: string;
  readonly intents: string;
  readonly events: string;
} = {
  subnets: "subnets/",
  epochs: "epochs/",
  slots: "slots/",
  nodes: "nodes/",
  alive: "alive/",
  pool: "pool/",
  moved: "moved/",
  acted: "acted/",
  quarantine: "quarantine/",
  intents: "intents/",
  events: "events/",
};

/** Every key of the cluster, relative to the store's prefix; docs/design.md describes the values. */
export const keys: {
  readonly config: string;
  readonly incarnation: string;
  readonly leader: string;
  /** The leader's proof that it can write. */
  readonly controller: string;
  /** While it exists nothing is freed. */
  readonly pause: string;
  /** The last node that did not get the lowest slot and was alone then: those that looked before it give way. */
  readonly joining: string;
  subnet(node: string): string;
  epochs(node: string): string;
  slot(cidr: string): string;
  node(node: string): string;
  alive(node: string): string;
  pool(address: string): string;
  moved(address: string): string;
  acted(node: string): string;
  quarantine(cidr: string): string;
  intent(id: string): string;
  event(id: string): string;
} = {
  config: "config",
  incarnation: "incarnation",
  leader: "leader",
  controller: "controller",
  pause: "pause",
  joining: "joining",
  subnet: (node) => prefixes.subnets + node,
  epochs: (node) => prefixes.epochs + node,
  slot: (cidr) => prefixes.slots + cidr,
  node: (node) => prefixes.nodes + node,
  alive: (node) => prefixes.alive + node,
  pool: (address) => prefixes.pool + address,
  moved: (address) => prefixes.moved + address,
  acted: (node) => prefixes.acted + node,
  quarantine: (cidr) => prefixes.quarantine + cidr,
  intent: (id) => prefixes.intents + id,
  event: (id) => prefixes.events + id,
};
