/**
 * The ways in which the path between one client and its server can fail. A fault lasts until {@link pass}.
 * Disposing it breaks the path for good.
 */
export interface Faults extends AsyncDisposable {
  /** Ends every fault. What was held back flows again, as it does when a network heals. */
  pass(): void | Promise<void>;
  /** Breaks all connections, once. New ones are taken. */
  cut(): void | Promise<void>;
  /** Breaks all connections and refuses new ones, as a server that is down. */
  refuse(): void | Promise<void>;
  /** Takes connections and data and passes nothing on in either direction, as a network that drops packets. */
  blackhole(): void | Promise<void>;
  /** Passes the next request on, drops its answer, and then breaks that connection. `count` times. */
  swallow(count?: number): void | Promise<void>;
  /** Holds everything that the server sends back for `ms`. */
  delay(ms: number): void | Promise<void>;
}
