import type { Etcd3 } from "etcd3";

interface Stream {
  end(): void;
  cancel(): void;
  on(event: "status", listener: () => void): unknown;
}

/**
 * A client and what uses it. When another one takes its place, its streams are ended and its calls are waited for,
 * so that no write is left in doubt; then it is closed.
 */
export class SharedClient {
  readonly #client: Etcd3;
  readonly #streams = new Set<Stream>();
  #calls = 0;
  #retired = false;

  constructor(client: Etcd3) {
    this.#client = client;
  }

  /** Runs `work`, which must end by itself. */
  async use<T>(work: (client: Etcd3) => Promise<T>): Promise<T> {
    this.#calls += 1;
    try {
      return await work(this.#client);
    } finally {
      this.#calls -= 1;
      if (this.#retired && this.#calls === 0) this.close();
    }
  }

  /** Opens a stream that lasts until somebody ends it, or the client is replaced. */
  async stream<S extends Stream>(open: (client: Etcd3) => Promise<S>): Promise<S> {
    const stream = await this.use(open);
    this.#streams.add(stream);
    stream.on("status", () => this.#streams.delete(stream));
    if (this.#retired) endStream(stream);
    return stream;
  }

  /** Another one has taken its place. */
  retire(): void {
    this.#retired = true;
    for (const stream of this.#streams) endStream(stream);
    if (this.#calls === 0) this.close();
  }

  close(): void {
    this.#client.close();
  }
}

/** Half-closes before it cancels: the client takes a cancelled open stream for a failure of its host. */
export function endStream(stream: { end(): void; cancel(): void }): void {
  stream.end();
  stream.cancel();
}
